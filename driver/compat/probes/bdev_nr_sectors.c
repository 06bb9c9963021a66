// SPDX-License-Identifier: GPL-2.0-only
/* 5.16, in the series of "block: add a bdev_nr_bytes helper": bdev_nr_sectors(). */
#include <linux/module.h>
#include <linux/blkdev.h>

sector_t probe(struct block_device *bdev);
sector_t probe(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}
MODULE_LICENSE("GPL");
