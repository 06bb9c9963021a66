// SPDX-License-Identifier: GPL-2.0-only
/* Which blocks changed, and where their old content is. */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "fault.h"
#include "header.h"
#include "index.h"

/* A page of the index is a block of the COW file. */
static_assert(PAGE_SIZE == ELASTIO_SNAP_BLOCK_SIZE);

#define SECTION_PAGES (ELASTIO_SNAP_SECTION_SIZE / PAGE_SIZE)

/* With any limit, so many pages are needed to work at all. */
#define MIN_PAGES 2

/*
 * The I/O path must not wait for memory for ever; when there is none, a page
 * of the cache is written out and used again.
 */
#define INDEX_GFP (GFP_NOIO | __GFP_HIGH | __GFP_NORETRY | __GFP_NOWARN)

struct index_page {
	struct list_head lru;
	struct page *page;
	u64 nr;
	bool dirty;
};

/* Pages of the index area. */
static u64 area_pages(const struct esnap_index *idx)
{
	return idx->nr_sections * SECTION_PAGES;
}

u64 esnap_index_sections(u64 nr_sectors)
{
	return DIV_ROUND_UP_ULL(nr_sectors / ELASTIO_SNAP_BLOCK_SECTORS,
				ELASTIO_SNAP_SECTION_ENTRIES);
}

int esnap_index_init(struct esnap_index *idx, u64 nr_sectors, u64 cache_size,
		     struct esnap_store *store)
{
	int err;

	idx->store = store;
	idx->nr_sections = esnap_index_sections(nr_sectors);
	atomic64_set(&idx->nr_changed, 0);
	mutex_init(&idx->lock);
	xa_init(&idx->pages);
	INIT_LIST_HEAD(&idx->lru);
	esnap_index_set_cache(idx, cache_size);

	err = esnap_changes_init(&idx->changes, DIV_ROUND_UP_ULL(nr_sectors,
								 ELASTIO_SNAP_BLOCK_SECTORS));
	if (err)
		return err;
	/* One more: an entry behind the area is never stored, but asked for. */
	idx->stored = kvcalloc(BITS_TO_LONGS(area_pages(idx) + 1), sizeof(long), GFP_KERNEL);
	if (!idx->stored)
		goto err_changes;
	idx->batch.pages[0] = alloc_page(GFP_KERNEL);
	if (!idx->batch.pages[0])
		goto err_stored;
	idx->batch.nr = 1;
	return 0;

err_stored:
	kvfree(idx->stored);
err_changes:
	esnap_changes_free(&idx->changes);
	return -ENOMEM;
}

void esnap_index_free(struct esnap_index *idx)
{
	esnap_index_drop_mapping(idx);
	esnap_store_free_page(idx->batch.pages[0]);
	kvfree(idx->stored);
	esnap_changes_free(&idx->changes);
}

/* --- what changed ---------------------------------------------------------- */

/*
 * A block counts once, however it came to be marked: the one that sets its
 * first bit counts it.  While both bitmaps can be marked at the same time
 * nobody marks @changed for a block that another marks in @window, because
 * saving starts only after a grace period.
 */
void esnap_index_mark(struct esnap_index *idx, struct esnap_bitmap *bm, u64 first, u64 last)
{
	struct esnap_changes *c = &idx->changes;
	struct esnap_bitmap *other = bm == &c->window ? &c->changed : &c->window;
	u64 block;

	for (block = esnap_bitmap_next_zero(bm, first, last); block <= last;
	     block = esnap_bitmap_next_zero(bm, block + 1, last))
		if (!esnap_bitmap_test_and_set(bm, block) &&
		    !esnap_bitmap_test(other, block))
			atomic64_inc(&idx->nr_changed);
}

int esnap_index_merge_window(struct esnap_index *idx)
{
	u64 last = idx->changes.nr_blocks - 1;
	u64 block;

	for (block = esnap_bitmap_next_set(&idx->changes.window, 0, last); block <= last;
	     block = esnap_bitmap_next_set(&idx->changes.window, block + 1, last)) {
		int err = esnap_bitmap_prepare(&idx->changes.changed, block, block,
					       ESNAP_BITMAP_GFP);

		if (err)
			return err;
		esnap_bitmap_test_and_set(&idx->changes.changed, block);
		cond_resched();
	}
	return 0;
}

/* --- the mapping ----------------------------------------------------------- */

void esnap_index_set_cache(struct esnap_index *idx, u64 cache_size)
{
	/* The format's rule: 24 bytes of each section count too. */
	u64 fixed = 24 * idx->nr_sections;
	u64 sections = cache_size <= fixed ? 0 : (cache_size - fixed) / ELASTIO_SNAP_SECTION_SIZE;
	u64 pages = sections * SECTION_PAGES;

	WRITE_ONCE(idx->max_pages, clamp_t(u64, pages, MIN_PAGES, ULONG_MAX));
}

static void free_index_page(struct esnap_index *idx, struct index_page *ip)
{
	list_del(&ip->lru);
	xa_erase(&idx->pages, ip->nr);
	idx->nr_pages--;
	esnap_store_free_page(ip->page);
	kfree(ip);
}

void esnap_index_drop_mapping(struct esnap_index *idx)
{
	struct index_page *ip, *next;

	mutex_lock(&idx->lock);
	list_for_each_entry_safe(ip, next, &idx->lru, lru)
		free_index_page(idx, ip);
	xa_destroy(&idx->pages);
	mutex_unlock(&idx->lock);
}

/*
 * Writes out and frees the least used pages until @target are left.  The page of
 * a last block that the area has no room for stays.
 */
static int evict(struct esnap_index *idx, unsigned long target)
{
	while (idx->nr_pages > target) {
		struct esnap_sync_sio sync;
		struct esnap_transfer x;
		struct index_page *ip, *next;
		LIST_HEAD(batch);
		unsigned long n = 0;
		int err;

		esnap_sync_sio_init(&sync);
		esnap_transfer_start(&x, idx->store, REQ_OP_WRITE, &sync.sio);
		list_for_each_entry_safe(ip, next, &idx->lru, lru) {
			if (n == ESNAP_INDEX_BATCH || idx->nr_pages - n <= target)
				break;
			if (ip->nr >= area_pages(idx))
				continue;
			list_move_tail(&ip->lru, &batch);
			if (ip->dirty)
				esnap_transfer_add(&x, 1 + ip->nr, ip->page);
			n++;
		}
		esnap_transfer_finish(&x);
		err = esnap_sync_sio_wait(&sync);
		if (err) {
			list_splice(&batch, &idx->lru);
			return err;
		}
		if (!n)
			break;
		list_for_each_entry_safe(ip, next, &batch, lru) {
			if (ip->dirty)
				__set_bit(ip->nr, idx->stored);
			free_index_page(idx, ip);
		}
	}
	return 0;
}

static struct index_page *new_index_page(struct esnap_index *idx, u64 nr)
{
	struct index_page *ip = kmalloc(sizeof(*ip), INDEX_GFP);

	if (!ip)
		return NULL;
	ip->nr = nr;
	ip->dirty = false;
	ip->page = alloc_page(INDEX_GFP | __GFP_ZERO);
	if (!ip->page)
		goto err;
	if (xa_err(xa_store(&idx->pages, nr, ip, INDEX_GFP)))
		goto err_page;
	list_add_tail(&ip->lru, &idx->lru);
	idx->nr_pages++;
	return ip;

err_page:
	__free_page(ip->page);
err:
	kfree(ip);
	return NULL;
}

/* The page of the index that holds the entry of @block, as the most used one. */
static struct index_page *get_page_of(struct esnap_index *idx, u64 block)
{
	u64 nr = block / ESNAP_PAGE_ENTRIES;
	unsigned long limit = READ_ONCE(idx->max_pages);
	struct index_page *ip;
	int err;

	lockdep_assert_held(&idx->lock);
	ip = xa_load(&idx->pages, nr);
	if (ip) {
		list_move_tail(&ip->lru, &idx->lru);
		return ip;
	}
	if (idx->nr_pages >= limit) {
		/* Some at a time: one write for each new page would be slow. */
		err = evict(idx, limit - min_t(unsigned long, limit / 2, ESNAP_INDEX_BATCH));
		if (err)
			return ERR_PTR(err);
	}
	ip = new_index_page(idx, nr);
	if (!ip) {
		err = evict(idx, idx->nr_pages / 2);
		if (err)
			return ERR_PTR(err);
		ip = new_index_page(idx, nr);
		if (!ip)
			return ERR_PTR(-ENOMEM);
	}
	if (test_bit(nr, idx->stored)) {
		err = esnap_store_rw_block(idx->store, REQ_OP_READ, 1 + nr, ip->page);
		if (err) {
			free_index_page(idx, ip);
			return ERR_PTR(err);
		}
	}
	return ip;
}

int esnap_index_map(struct esnap_index *idx, u64 block, u64 nr, u64 cow_block)
{
	u64 first_data = esnap_first_data_block(idx->nr_sections);
	int err = 0;

	mutex_lock(&idx->lock);
	while (nr) {
		struct index_page *ip = get_page_of(idx, block);
		u32 i = block % ESNAP_PAGE_ENTRIES;
		__le64 *entries;

		if (IS_ERR(ip)) {
			err = PTR_ERR(ip);
			break;
		}
		entries = kmap_local_page(ip->page);
		for (; nr && i < ESNAP_PAGE_ENTRIES; i++, block++, cow_block++, nr--)
			if (le64_to_cpu(entries[i]) < first_data)
				entries[i] = cpu_to_le64(cow_block);
		kunmap_local(entries);
		ip->dirty = true;
	}
	mutex_unlock(&idx->lock);
	return err;
}

int esnap_index_lookup(struct esnap_index *idx, u64 block, u64 *cow_block)
{
	struct index_page *ip;
	int err = 0;

	mutex_lock(&idx->lock);
	ip = get_page_of(idx, block);
	if (IS_ERR(ip)) {
		err = PTR_ERR(ip);
	} else {
		__le64 *entries = kmap_local_page(ip->page);

		*cow_block = le64_to_cpu(entries[block % ESNAP_PAGE_ENTRIES]);
		kunmap_local(entries);
	}
	mutex_unlock(&idx->lock);
	return err;
}

/* --- what user space reads ------------------------------------------------- */

/* The last block for which the index area has an entry. */
static u64 last_in_area(const struct esnap_index *idx)
{
	return min(idx->changes.nr_blocks, idx->nr_sections * ELASTIO_SNAP_SECTION_ENTRIES) - 1;
}

/* A page of entries from @first on: 1 for each block that changed. */
static void fill_entries(const struct esnap_index *idx, u64 first, __le64 *entries)
{
	u64 end = min(first + ESNAP_PAGE_ENTRIES - 1, last_in_area(idx)) + 1;
	u64 block;

	clear_page(entries);
	for (block = esnap_changes_next(&idx->changes, first, end - 1); block < end;
	     block = esnap_changes_next(&idx->changes, block + 1, end - 1))
		entries[block - first] = cpu_to_le64(ELASTIO_SNAP_ENTRY_CHANGED);
}

/*
 * An origin whose size is no multiple of a block has a last block that can lie
 * behind the index area (spec 4); the format has no place for it there.
 */
int esnap_index_write(struct esnap_index *idx, struct file *file)
{
	__le64 *entries = (void *)__get_free_page(GFP_KERNEL);
	u64 last = last_in_area(idx);
	u64 block = 0;
	int err = 0;

	if (!entries)
		return -ENOMEM;
	while (!err) {
		loff_t pos;
		ssize_t n;

		block = esnap_changes_next(&idx->changes, block, last);
		if (block > last)
			break;
		block = round_down(block, ESNAP_PAGE_ENTRIES);
		fill_entries(idx, block, entries);
		pos = ELASTIO_SNAP_HEADER_SIZE + block * sizeof(*entries);
		n = kernel_write(file, entries, PAGE_SIZE, &pos);
		if (n != PAGE_SIZE)
			err = n < 0 ? n : -EIO;
		block += ESNAP_PAGE_ENTRIES;
		cond_resched();
	}
	free_page((unsigned long)entries);
	return err;
}

/* --- what a later activation reads ------------------------------------------ */

/* As many pages for one transfer as are to be had now. */
static struct esnap_page_batch *grow_batch(struct esnap_index *idx)
{
	struct esnap_page_batch *b = &idx->batch;

	for (; b->nr < ESNAP_INDEX_BATCH; b->nr++) {
		b->pages[b->nr] = alloc_page(INDEX_GFP);
		if (!b->pages[b->nr])
			break;
	}
	return b;
}

static void shrink_batch(struct esnap_page_batch *b)
{
	while (b->nr > 1)
		esnap_store_free_page(b->pages[--b->nr]);
}

/* The pages @from[0 .. nr) of the index area, which ascend. */
static int transfer_pages(struct esnap_index *idx, blk_opf_t op, struct esnap_page_batch *b,
			  const u64 *from, unsigned int nr)
{
	struct esnap_sync_sio sync;
	struct esnap_transfer x;
	unsigned int i;

	if (op == REQ_OP_WRITE && esnap_fault("lose_index_page"))
		nr--;
	esnap_sync_sio_init(&sync);
	esnap_transfer_start(&x, idx->store, op, &sync.sio);
	for (i = 0; i < nr; i++)
		esnap_transfer_add(&x, 1 + from[i], b->pages[i]);
	esnap_transfer_finish(&x);
	return esnap_sync_sio_wait(&sync);
}

/* Every page with a block that changed, made from the bitmaps. */
static int save_changed(struct esnap_index *idx, struct esnap_page_batch *b)
{
	u64 last = last_in_area(idx);
	u64 nrs[ESNAP_INDEX_BATCH];
	unsigned int n = 0;
	u64 block;
	int err = 0;

	for (block = esnap_changes_next(&idx->changes, 0, last); block <= last && !err;
	     block = esnap_changes_next(&idx->changes, block + ESNAP_PAGE_ENTRIES, last)) {
		block = round_down(block, ESNAP_PAGE_ENTRIES);
		nrs[n] = block / ESNAP_PAGE_ENTRIES;
		fill_entries(idx, block, page_address(b->pages[n]));
		__set_bit(nrs[n], idx->stored);
		if (++n == b->nr) {
			err = transfer_pages(idx, REQ_OP_WRITE, b, nrs, n);
			n = 0;
		}
	}
	return err ?: n ? transfer_pages(idx, REQ_OP_WRITE, b, nrs, n) : 0;
}

/* The mapping, and in it what changed around the instant and is not saved. */
static int save_mapping(struct esnap_index *idx)
{
	u64 last = idx->changes.nr_blocks - 1;
	u64 block;
	int err = 0;

	mutex_lock(&idx->lock);
	for (block = esnap_bitmap_next_set(&idx->changes.window, 0, last); block <= last && !err;
	     block = esnap_bitmap_next_set(&idx->changes.window, block + 1, last)) {
		struct index_page *ip = get_page_of(idx, block);
		__le64 *entry;

		if (IS_ERR(ip)) {
			err = PTR_ERR(ip);
			break;
		}
		entry = (__le64 *)page_address(ip->page) + block % ESNAP_PAGE_ENTRIES;
		if (!*entry)
			*entry = cpu_to_le64(ELASTIO_SNAP_ENTRY_CHANGED);
		ip->dirty = true;
		cond_resched();
	}
	if (!err)
		err = evict(idx, 0);
	mutex_unlock(&idx->lock);
	return err;
}

/* What is not stored of a group that is stored in part: zeros. */
static int complete_groups(struct esnap_index *idx, struct esnap_page_batch *b, void *groups)
{
	u64 group_pages = SECTION_PAGES << esnap_group_shift(idx->nr_sections);
	u64 nr = area_pages(idx);
	u64 nrs[ESNAP_INDEX_BATCH];
	unsigned int i, n = 0;
	u64 page = 0;
	int err = 0;

	for (i = 0; i < b->nr; i++)
		clear_page(page_address(b->pages[i]));
	while ((page = find_next_bit(idx->stored, nr, page)) < nr && !err) {
		u64 group = page / group_pages;
		u64 end = min(nr, (group + 1) * group_pages);

		__set_bit_le(group, groups);
		for (page = group * group_pages; page < end && !err; page++) {
			if (__test_and_set_bit(page, idx->stored))
				continue;
			nrs[n] = page;
			if (++n == b->nr) {
				err = transfer_pages(idx, REQ_OP_WRITE, b, nrs, n);
				n = 0;
			}
		}
	}
	return err ?: n ? transfer_pages(idx, REQ_OP_WRITE, b, nrs, n) : 0;
}

/* The entry of a last block that lies behind the area, or 0. */
static int tail_entry(struct esnap_index *idx, bool mapping, u64 *tail)
{
	u64 block = last_in_area(idx) + 1;

	*tail = ELASTIO_SNAP_ENTRY_UNCHANGED;
	if (block >= idx->changes.nr_blocks || !esnap_changes_test(&idx->changes, block))
		return 0;
	if (mapping && esnap_bitmap_test(&idx->changes.changed, block))
		return esnap_index_lookup(idx, block, tail);
	*tail = ELASTIO_SNAP_ENTRY_CHANGED;
	return 0;
}

int esnap_index_save(struct esnap_index *idx, bool mapping, void *groups, u64 *tail)
{
	struct esnap_page_batch *b = grow_batch(idx);
	int err;

	err = tail_entry(idx, mapping, tail);
	if (!err)
		err = mapping ? save_mapping(idx) : save_changed(idx, b);
	memset(groups, 0, ELASTIO_SNAP_COW_GROUPS / 8);
	/* Readers of the image must not take a page for stored before it is. */
	mutex_lock(&idx->lock);
	if (!err)
		err = complete_groups(idx, b, groups);
	mutex_unlock(&idx->lock);
	shrink_batch(b);
	return err;
}

static int load_entry(struct esnap_index *idx, bool mapping, u64 block, u64 entry, u64 end)
{
	bool saved = entry >= esnap_first_data_block(idx->nr_sections);
	struct esnap_bitmap *bm = mapping && !saved ? &idx->changes.window : &idx->changes.changed;
	int err;

	if (block >= idx->changes.nr_blocks ||
	    (mapping && (saved ? entry >= end : entry != ELASTIO_SNAP_ENTRY_CHANGED)))
		return -EINVAL;
	err = esnap_bitmap_prepare(bm, block, block, ESNAP_BITMAP_GFP);
	if (!err)
		esnap_index_mark(idx, bm, block, block);
	return err;
}

static int load_page(struct esnap_index *idx, bool mapping, u64 nr, const __le64 *entries,
		     u64 end)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < ESNAP_PAGE_ENTRIES && !err; i++)
		if (entries[i])
			err = load_entry(idx, mapping, nr * ESNAP_PAGE_ENTRIES + i,
					 le64_to_cpu(entries[i]), end);
	/* What is not mapped is made from the bitmaps when it is stored again. */
	__set_bit(nr, idx->stored);
	cond_resched();
	return err;
}

static int load_range(struct esnap_index *idx, bool mapping, struct esnap_page_batch *b, u64 from,
		      u64 to, u64 end)
{
	u64 nrs[ESNAP_INDEX_BATCH];
	unsigned int n, i;
	int err = 0;

	for (; from < to && !err; from += n) {
		n = min_t(u64, to - from, b->nr);
		for (i = 0; i < n; i++)
			nrs[i] = from + i;
		err = transfer_pages(idx, REQ_OP_READ, b, nrs, n);
		for (i = 0; i < n && !err; i++)
			err = load_page(idx, mapping, nrs[i], page_address(b->pages[i]), end);
	}
	return err;
}

/* The entry of a block behind the area lives in the cache, whatever its limit. */
static int load_tail(struct esnap_index *idx, bool mapping, u64 tail, u64 end)
{
	u64 block = last_in_area(idx) + 1;
	int err;

	if (!tail)
		return 0;
	err = load_entry(idx, mapping, block, tail, end);
	if (!err && mapping)
		err = esnap_index_map(idx, block, 1, tail);
	return err;
}

int esnap_index_load(struct esnap_index *idx, bool mapping, const void *groups, u64 tail,
		     u64 end)
{
	u64 group_pages = SECTION_PAGES << esnap_group_shift(idx->nr_sections);
	u64 nr_groups = DIV_ROUND_UP_ULL(area_pages(idx), group_pages);
	struct esnap_page_batch *b = grow_batch(idx);
	u64 group;
	int err;

	err = load_tail(idx, mapping, tail, end);
	for (group = 0; group < nr_groups && !err; group++)
		if (test_bit_le(group, groups))
			err = load_range(idx, mapping, b, group * group_pages,
					 min((group + 1) * group_pages, area_pages(idx)), end);
	shrink_batch(b);
	return err;
}
