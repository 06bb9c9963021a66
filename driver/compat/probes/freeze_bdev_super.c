// SPDX-License-Identifier: GPL-2.0-only
/* Until 040f04bd2e82 (5.11): freeze_bdev() returns the superblock. */
#include <linux/module.h>
#include <linux/blkdev.h>
#include <linux/fs.h>

int probe(struct block_device *bdev);
int probe(struct block_device *bdev)
{
	struct super_block *sb = freeze_bdev(bdev);

	return IS_ERR(sb) ? PTR_ERR(sb) : thaw_bdev(bdev, sb);
}
MODULE_LICENSE("GPL");
