// SPDX-License-Identifier: GPL-2.0-only
/* 309dca309fc3 (5.12): struct bio has bi_bdev instead of bi_disk, bi_partno. */
#include <linux/module.h>
#include <linux/bio.h>

struct block_device *probe(struct bio *bio);
struct block_device *probe(struct bio *bio)
{
	return bio->bi_bdev;
}
MODULE_LICENSE("GPL");
