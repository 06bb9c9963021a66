// SPDX-License-Identifier: GPL-2.0-only
/* Until 5.15, "block: add error handling for device_add_disk / add_disk". */
#include <linux/module.h>
#include <linux/blkdev.h>
#include <linux/genhd.h>

void (*probe)(struct device *parent, struct gendisk *disk,
	      const struct attribute_group **groups) = device_add_disk;
MODULE_LICENSE("GPL");
