// SPDX-License-Identifier: GPL-2.0-only
/* Until 1ebe2e5f9d68 (5.17): GENHD_FL_NO_PART_SCAN. */
#include <linux/module.h>
#include <linux/blkdev.h>
#include <linux/genhd.h>

int probe = GENHD_FL_NO_PART_SCAN;
MODULE_LICENSE("GPL");
