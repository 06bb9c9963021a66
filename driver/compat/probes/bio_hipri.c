// SPDX-License-Identifier: GPL-2.0-only
/* Until 3e08773c3841 (5.16): REQ_HIPRI asks for polling. */
#include <linux/module.h>
#include <linux/bio.h>

void probe(struct bio *bio);
void probe(struct bio *bio)
{
	bio->bi_opf &= ~REQ_HIPRI;
}
MODULE_LICENSE("GPL");
