// SPDX-License-Identifier: GPL-2.0-only
/* Until 4e7b5671c6a8 (5.11): lookup_bdev() gives a device, to be put. */
#include <linux/module.h>
#include <linux/blkdev.h>

void probe(const char *path);
void probe(const char *path)
{
	struct block_device *bdev = lookup_bdev(path);

	bdput(bdev);
}
MODULE_LICENSE("GPL");
