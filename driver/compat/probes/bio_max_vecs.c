// SPDX-License-Identifier: GPL-2.0-only
/* a8affc03a9b3 (5.12): BIO_MAX_VECS, formerly BIO_MAX_PAGES. */
#include <linux/module.h>
#include <linux/bio.h>

int probe = BIO_MAX_VECS;
MODULE_LICENSE("GPL");
