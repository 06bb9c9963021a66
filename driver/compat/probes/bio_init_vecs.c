// SPDX-License-Identifier: GPL-2.0-only
/* Until 49add4966d79 (5.18): bio_init() takes nothing but the room for pages. */
#include <linux/module.h>
#include <linux/bio.h>

void probe(struct bio *bio, struct bio_vec *vecs);
void probe(struct bio *bio, struct bio_vec *vecs)
{
	bio_init(bio, vecs, 1);
}
MODULE_LICENSE("GPL");
