// SPDX-License-Identifier: GPL-2.0-only
/* Until 3e08773c3841 (5.16): submit_bio_noacct() returns what can be polled for. */
#include <linux/module.h>
#include <linux/blkdev.h>

blk_qc_t (*probe)(struct bio *bio) = submit_bio_noacct;
MODULE_LICENSE("GPL");
