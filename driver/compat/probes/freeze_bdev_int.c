// SPDX-License-Identifier: GPL-2.0-only
/* 040f04bd2e82 (5.11): freeze_bdev() returns an int; gone in 6.8. */
#include <linux/module.h>
#include <linux/blkdev.h>

int probe(struct block_device *bdev);
int probe(struct block_device *bdev)
{
	int err = freeze_bdev(bdev);

	return err ?: thaw_bdev(bdev);
}
MODULE_LICENSE("GPL");
