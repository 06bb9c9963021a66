// SPDX-License-Identifier: GPL-2.0-only
/* Until 3222d8c2a7f8 (6.3): disks may write pages without a bio. */
#include <linux/module.h>
#include <linux/blkdev.h>

bool probe(struct gendisk *disk);
bool probe(struct gendisk *disk)
{
	return disk->fops->rw_page;
}
MODULE_LICENSE("GPL");
