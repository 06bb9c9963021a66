// SPDX-License-Identifier: GPL-2.0-only
/* abfc426d1b2f (5.18): bio_alloc_clone() takes the device. */
#include <linux/module.h>
#include <linux/bio.h>
#include <linux/blkdev.h>

struct bio *probe(struct block_device *bdev, struct bio *bio, struct bio_set *bs);
struct bio *probe(struct block_device *bdev, struct bio *bio, struct bio_set *bs)
{
	return bio_alloc_clone(bdev, bio, GFP_NOIO, bs);
}
MODULE_LICENSE("GPL");
