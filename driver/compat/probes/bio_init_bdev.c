// SPDX-License-Identifier: GPL-2.0-only
/* 49add4966d79 (5.18): bio_init() takes the device and the operation. */
#include <linux/module.h>
#include <linux/bio.h>

void probe(struct bio *bio, struct bio_vec *vecs);
void probe(struct bio *bio, struct bio_vec *vecs)
{
	bio_init(bio, NULL, vecs, 1, REQ_OP_READ);
}
MODULE_LICENSE("GPL");
