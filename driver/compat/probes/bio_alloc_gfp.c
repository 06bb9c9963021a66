// SPDX-License-Identifier: GPL-2.0-only
/* Until 07888c665b40 (5.18): bio_alloc_bioset() takes neither the device nor the operation. */
#include <linux/module.h>
#include <linux/bio.h>

struct bio *probe(struct bio_set *bs);
struct bio *probe(struct bio_set *bs)
{
	return bio_alloc_bioset(GFP_NOIO, 1, bs);
}
MODULE_LICENSE("GPL");
