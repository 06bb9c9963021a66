// SPDX-License-Identifier: GPL-2.0-only
/* Until abfc426d1b2f (5.18): bio_clone_fast(). */
#include <linux/module.h>
#include <linux/bio.h>

struct bio *probe(struct bio *bio, struct bio_set *bs);
struct bio *probe(struct bio *bio, struct bio_set *bs)
{
	return bio_clone_fast(bio, GFP_NOIO, bs);
}
MODULE_LICENSE("GPL");
