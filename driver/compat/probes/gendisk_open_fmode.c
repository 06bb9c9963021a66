// SPDX-License-Identifier: GPL-2.0-only
/* Until d32e2bf83791 (6.5): block devices' open takes the block_device. */
#include <linux/module.h>
#include <linux/blkdev.h>

static int open(struct block_device *bdev, fmode_t mode)
{
	return 0;
}

static void release(struct gendisk *disk, fmode_t mode)
{
}

const struct block_device_operations probe = { .open = open, .release = release };
MODULE_LICENSE("GPL");
