// SPDX-License-Identifier: GPL-2.0-only
/* Until 73bd66d9c834 (5.18): blkdev_issue_write_same(). */
#include <linux/module.h>
#include <linux/blkdev.h>

int probe(struct block_device *bdev, struct page *page);
int probe(struct block_device *bdev, struct page *page)
{
	return blkdev_issue_write_same(bdev, 0, 8, GFP_KERNEL, page);
}
MODULE_LICENSE("GPL");
