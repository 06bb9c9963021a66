// SPDX-License-Identifier: GPL-2.0-only
/* cf179948554a (5.15): a disk has a sequence number. */
#include <linux/module.h>
#include <linux/blkdev.h>

u64 probe(struct gendisk *disk);
u64 probe(struct gendisk *disk)
{
	return disk->diskseq;
}
MODULE_LICENSE("GPL");
