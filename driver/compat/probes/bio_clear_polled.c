// SPDX-License-Identifier: GPL-2.0-only
/* 3e08773c3841 (5.16): REQ_POLLED and bio_clear_polled() replace REQ_HIPRI. */
#include <linux/module.h>
#include <linux/bio.h>

void probe(struct bio *bio);
void probe(struct bio *bio)
{
	bio_clear_polled(bio);
}
MODULE_LICENSE("GPL");
