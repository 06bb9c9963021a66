// SPDX-License-Identifier: GPL-2.0-only
/* 5.15, "block: add error handling for device_add_disk / add_disk": it can fail. */
#include <linux/module.h>
#include <linux/blkdev.h>

int (*probe)(struct device *parent, struct gendisk *disk,
	     const struct attribute_group **groups) = device_add_disk;
MODULE_LICENSE("GPL");
