// SPDX-License-Identifier: GPL-2.0-only
/* Until 2736e8eeb0cc (6.5): blkdev_get_by_dev(dev, fmode_t, holder). */
#include <linux/module.h>
#include <linux/blkdev.h>

struct block_device *probe(dev_t dev);
struct block_device *probe(dev_t dev)
{
	struct block_device *bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);

	if (!IS_ERR(bdev))
		blkdev_put(bdev, FMODE_READ);
	return bdev;
}
MODULE_LICENSE("GPL");
