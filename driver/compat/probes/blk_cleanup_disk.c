// SPDX-License-Identifier: GPL-2.0-only
/* f525464a8000 (5.14): blk_cleanup_disk(disk), which drops the queue, too; until 5.19. */
#include <linux/module.h>
#include <linux/blkdev.h>

void probe(struct gendisk *disk);
void probe(struct gendisk *disk)
{
	blk_cleanup_disk(disk);
}
MODULE_LICENSE("GPL");
