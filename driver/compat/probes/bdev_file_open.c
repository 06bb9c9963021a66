// SPDX-License-Identifier: GPL-2.0-only
/* f3a608827d1f (6.9): bdev_file_open_by_dev(). */
#include <linux/module.h>
#include <linux/blkdev.h>

struct block_device *probe(dev_t dev);
struct block_device *probe(dev_t dev)
{
	struct file *file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);

	return IS_ERR(file) ? NULL : file_bdev(file);
}
MODULE_LICENSE("GPL");
