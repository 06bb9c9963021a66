// SPDX-License-Identifier: GPL-2.0-only
/* Which blocks changed since a snapshot instant. */
#include <linux/sched.h>
#include <linux/string.h>

#include "changes.h"

int esnap_changes_init(struct esnap_changes *c, u64 nr_blocks)
{
	int err;

	c->nr_blocks = nr_blocks;
	err = esnap_bitmap_init(&c->changed, nr_blocks);
	if (err)
		return err;
	err = esnap_bitmap_init(&c->window, nr_blocks);
	if (err)
		esnap_bitmap_free(&c->changed);
	return err;
}

void esnap_changes_free(struct esnap_changes *c)
{
	esnap_bitmap_free(&c->window);
	esnap_bitmap_free(&c->changed);
	c->nr_blocks = 0;
}

void esnap_changes_move(struct esnap_changes *to, struct esnap_changes *from)
{
	*to = *from;
	memset(from, 0, sizeof(*from));
}

u64 esnap_changes_next(const struct esnap_changes *c, u64 first, u64 last)
{
	return min(esnap_bitmap_next_set(&c->changed, first, last),
		   esnap_bitmap_next_set(&c->window, first, last));
}

/* The first block in first..last that is in neither bitmap, or last + 1. */
static u64 next_unchanged(const struct esnap_changes *c, u64 first, u64 last)
{
	for (;;) {
		u64 a = esnap_bitmap_next_zero(&c->changed, first, last);
		u64 b = a > last ? a : esnap_bitmap_next_zero(&c->window, a, last);

		if (a == b)
			return a;
		first = b;
	}
}

u32 esnap_changes_extents(const struct esnap_changes *c, u64 *block,
			  struct elastio_snap_changed *extents, u32 max)
{
	u64 last = c->nr_blocks - 1;
	u32 nr;

	for (nr = 0; nr < max; nr++) {
		u64 first = esnap_changes_next(c, *block, last);

		if (first > last) {
			*block = c->nr_blocks;
			break;
		}
		*block = next_unchanged(c, first, last);
		extents[nr].first = first;
		extents[nr].nr = *block - first;
		cond_resched();
	}
	return nr;
}
