/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_CHANGES_H
#define ESNAP_CHANGES_H

#include "bitmap.h"

/*
 * Which blocks changed since a snapshot instant: those in one or the other
 * bitmap, which get new bits at any time, and pages, but lose none.
 */
struct esnap_changes {
	u64 nr_blocks;
	/* While a snapshot is active: whose old content is saved. */
	struct esnap_bitmap changed;
	/* What was written around the instant; not saved, but changed. */
	struct esnap_bitmap window;
};

/* May sleep. */
int esnap_changes_init(struct esnap_changes *c, u64 nr_blocks);

/* May sleep; nobody may look any more.  One that is all zeros is allowed. */
void esnap_changes_free(struct esnap_changes *c);

/* Moves what is in @from to @to, which is empty. */
void esnap_changes_move(struct esnap_changes *to, struct esnap_changes *from);

static inline bool esnap_changes_test(const struct esnap_changes *c, u64 block)
{
	return esnap_bitmap_test(&c->changed, block) || esnap_bitmap_test(&c->window, block);
}

/* The first block in first..last that changed, or something larger than last. */
u64 esnap_changes_next(const struct esnap_changes *c, u64 first, u64 last);

/*
 * Fills @extents with up to @max runs of blocks that changed, from *@block on,
 * which is moved behind them.  Returns how many; fewer than @max: that was all.
 */
u32 esnap_changes_extents(const struct esnap_changes *c, u64 *block,
			  struct elastio_snap_changed *extents, u32 max);

#endif /* ESNAP_CHANGES_H */
