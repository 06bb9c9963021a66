// SPDX-License-Identifier: GPL-2.0-only
/* cf0fbf894bb5 (5.19): bdev_max_discard_sectors(). */
#include <linux/module.h>
#include <linux/blkdev.h>

unsigned int probe(struct block_device *bdev);
unsigned int probe(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}
MODULE_LICENSE("GPL");
