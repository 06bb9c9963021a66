// SPDX-License-Identifier: GPL-2.0-only
/* 342a72a33407 (6.0): operation and flags of a bio have a type of their own. */
#include <linux/module.h>
#include <linux/blk_types.h>

blk_opf_t probe;
MODULE_LICENSE("GPL");
