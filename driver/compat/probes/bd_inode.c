// SPDX-License-Identifier: GPL-2.0-only
/* Until 6436bd90f76e (5.15): the size of a device is that of its inode. */
#include <linux/module.h>
#include <linux/blkdev.h>

sector_t probe(struct block_device *bdev);
sector_t probe(struct block_device *bdev)
{
	return i_size_read(bdev->bd_inode) >> SECTOR_SHIFT;
}
MODULE_LICENSE("GPL");
