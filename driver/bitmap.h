/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_BITMAP_H
#define ESNAP_BITMAP_H

#include <linux/gfp.h>
#include <linux/types.h>

#include "esnap.h"

#define ESNAP_BITS_PER_PAGE (PAGE_SIZE * 8)

/*
 * A bitmap in two levels: pages appear when a range is prepared and stay until
 * the bitmap is freed, so that marking a bit allocates nothing.
 */
struct esnap_bitmap {
	u64 nr_bits;
	unsigned long nr_pages;
	unsigned long **pages;
};

/* May sleep. */
int esnap_bitmap_init(struct esnap_bitmap *bm, u64 nr_bits);

/* May sleep; no reader may be left. */
void esnap_bitmap_free(struct esnap_bitmap *bm);

/* May reclaim, but neither waits for I/O nor tries for ever. */
#define ESNAP_BITMAP_GFP (GFP_NOIO | __GFP_HIGH | __GFP_NORETRY | __GFP_NOWARN)

/*
 * Make the pages of the bits first..last; -ENOMEM when there is no memory.
 * Several callers and readers may run at a time.
 */
int esnap_bitmap_prepare(struct esnap_bitmap *bm, u64 first, u64 last, gfp_t gfp);

/* Do the pages of first..last exist?  Any context. */
bool esnap_bitmap_is_prepared(const struct esnap_bitmap *bm, u64 first, u64 last);

/* Any context. */
bool esnap_bitmap_test(const struct esnap_bitmap *bm, u64 bit);

/* The bit's page must exist.  A full barrier, like test_and_set_bit. */
bool esnap_bitmap_test_and_set(struct esnap_bitmap *bm, u64 bit);

/* The first zero bit in first..last, or last + 1.  Any context. */
u64 esnap_bitmap_next_zero(const struct esnap_bitmap *bm, u64 first, u64 last);

/* The first set bit in first..last, or last + 1.  Any context. */
u64 esnap_bitmap_next_set(const struct esnap_bitmap *bm, u64 first, u64 last);

#endif /* ESNAP_BITMAP_H */
