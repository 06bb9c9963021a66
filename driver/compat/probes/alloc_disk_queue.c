// SPDX-License-Identifier: GPL-2.0-only
/* Until f525464a8000 (5.14): disk and queue are allocated apart. */
#include <linux/module.h>
#include <linux/blkdev.h>
#include <linux/genhd.h>

struct gendisk *probe(void);
struct gendisk *probe(void)
{
	struct gendisk *disk = alloc_disk(1);

	if (disk)
		disk->queue = blk_alloc_queue(NUMA_NO_NODE);
	return disk;
}

void probe_end(struct gendisk *disk);
void probe_end(struct gendisk *disk)
{
	blk_cleanup_queue(disk->queue);
}
MODULE_LICENSE("GPL");
