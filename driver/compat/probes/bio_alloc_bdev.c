// SPDX-License-Identifier: GPL-2.0-only
/* 07888c665b40 (5.18): bio_alloc_bioset() takes the device and the operation. */
#include <linux/module.h>
#include <linux/bio.h>

struct bio *probe(struct block_device *bdev, struct bio_set *bs);
struct bio *probe(struct block_device *bdev, struct bio_set *bs)
{
	return bio_alloc_bioset(bdev, 1, REQ_OP_READ, GFP_NOIO, bs);
}
MODULE_LICENSE("GPL");
