// SPDX-License-Identifier: GPL-2.0-only
/* 982c3b305832 (6.8): bdev_freeze(), bdev_thaw(). */
#include <linux/module.h>
#include <linux/blkdev.h>

int probe(struct block_device *bdev);
int probe(struct block_device *bdev)
{
	return bdev_freeze(bdev) ?: bdev_thaw(bdev);
}
MODULE_LICENSE("GPL");
