// SPDX-License-Identifier: GPL-2.0-only
/* 3e08773c3841 (5.16): submit_bio_noacct returns nothing. */
#include <linux/module.h>
#include <linux/blkdev.h>

void (*probe)(struct bio *bio) = submit_bio_noacct;
MODULE_LICENSE("GPL");
