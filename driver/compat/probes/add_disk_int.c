// SPDX-License-Identifier: GPL-2.0-only
/* 278167fd2f8f (5.15): device_add_disk() can fail. */
#include <linux/module.h>
#include <linux/blkdev.h>

int (*probe)(struct device *parent, struct gendisk *disk,
	     const struct attribute_group **groups) = device_add_disk;
MODULE_LICENSE("GPL");
