// SPDX-License-Identifier: GPL-2.0-only
/*
 * A bitmap of an origin's blocks whose pages appear on demand.
 *
 * Bits are set while others look for them.  Who must not miss one that was set
 * before has a barrier in front of the search.
 */
#include <linux/bitops.h>
#include <linux/compiler.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "bitmap.h"

int esnap_bitmap_init(struct esnap_bitmap *bm, u64 nr_bits)
{
	bm->nr_bits = nr_bits;
	bm->nr_pages = DIV_ROUND_UP_ULL(nr_bits, ESNAP_BITS_PER_PAGE);
	bm->pages = kvcalloc(bm->nr_pages, sizeof(*bm->pages), GFP_KERNEL);
	return bm->pages ? 0 : -ENOMEM;
}

void esnap_bitmap_free(struct esnap_bitmap *bm)
{
	unsigned long i;

	if (!bm->pages)
		return;
	for (i = 0; i < bm->nr_pages; i++)
		free_page((unsigned long)bm->pages[i]);
	kvfree(bm->pages);
	bm->pages = NULL;
}

static unsigned long *page_of(const struct esnap_bitmap *bm, u64 bit)
{
	/* Pairs with the barrier in prepare: who sees the page sees its zeros. */
	return smp_load_acquire(&bm->pages[bit / ESNAP_BITS_PER_PAGE]);
}

int esnap_bitmap_prepare(struct esnap_bitmap *bm, u64 first, u64 last, gfp_t gfp)
{
	unsigned long i;

	for (i = first / ESNAP_BITS_PER_PAGE; i <= last / ESNAP_BITS_PER_PAGE; i++) {
		unsigned long page;

		if (READ_ONCE(bm->pages[i]))
			continue;
		page = __get_free_page(gfp | __GFP_ZERO);
		if (!page)
			return -ENOMEM;
		/*
		 * Its zeros first (cmpxchg is a full barrier); pairs with
		 * page_of().  Another caller's page may hold bits by now.
		 */
		if (cmpxchg(&bm->pages[i], NULL, (unsigned long *)page))
			free_page(page);
	}
	return 0;
}

bool esnap_bitmap_is_prepared(const struct esnap_bitmap *bm, u64 first, u64 last)
{
	unsigned long i;

	for (i = first / ESNAP_BITS_PER_PAGE; i <= last / ESNAP_BITS_PER_PAGE; i++)
		if (!READ_ONCE(bm->pages[i]))
			return false;
	return true;
}

static inline bool is_set(const struct esnap_bitmap *bm, u64 bit)
{
	unsigned long *page = page_of(bm, bit);

	return page && test_bit(bit % ESNAP_BITS_PER_PAGE, page);
}

bool esnap_bitmap_test(const struct esnap_bitmap *bm, u64 bit)
{
	return is_set(bm, bit);
}

bool esnap_bitmap_test_and_set(struct esnap_bitmap *bm, u64 bit)
{
	return test_and_set_bit(bit % ESNAP_BITS_PER_PAGE, page_of(bm, bit));
}

u64 esnap_bitmap_next_zero(const struct esnap_bitmap *bm, u64 first, u64 last)
{
	/* Most bios are of one block. */
	if (first == last)
		return last + is_set(bm, first);
	while (first <= last) {
		u64 base = round_down(first, ESNAP_BITS_PER_PAGE);
		u64 end = min_t(u64, last - base, ESNAP_BITS_PER_PAGE - 1) + 1;
		unsigned long *page = page_of(bm, first);
		u64 bit;

		if (!page)
			return first;
		/* A bit that is set meanwhile may be seen or not. */
		bit = data_race(find_next_zero_bit(page, end, first - base));
		if (bit < end)
			return base + bit;
		first = base + end;
	}
	return last + 1;
}

u64 esnap_bitmap_next_set(const struct esnap_bitmap *bm, u64 first, u64 last)
{
	if (first == last)
		return last + !is_set(bm, first);
	while (first <= last) {
		u64 base = round_down(first, ESNAP_BITS_PER_PAGE);
		u64 end = min_t(u64, last - base, ESNAP_BITS_PER_PAGE - 1) + 1;
		unsigned long *page = page_of(bm, first);

		if (page) {
			/* A bit that is set meanwhile may be seen or not. */
			u64 bit = data_race(find_next_bit(page, end, first - base));

			if (bit < end)
				return base + bit;
		}
		first = base + end;
	}
	return last + 1;
}
