// SPDX-License-Identifier: GPL-2.0-only
/* Which blocks changed, and where their old content is. */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "index.h"

/* Pages that are written out together when the cache is over its limit. */
#define EVICT_BATCH 64

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

u64 esnap_index_sections(u64 nr_sectors)
{
	return DIV_ROUND_UP_ULL(nr_sectors / ELASTIO_SNAP_BLOCK_SECTORS,
				ELASTIO_SNAP_SECTION_ENTRIES);
}

int esnap_index_init(struct esnap_index *idx, u64 nr_sectors, u64 cache_size,
		     struct esnap_store *store)
{
	u64 nr_index_pages;
	int err;

	idx->store = store;
	idx->nr_blocks = DIV_ROUND_UP_ULL(nr_sectors, ELASTIO_SNAP_BLOCK_SECTORS);
	idx->nr_sections = esnap_index_sections(nr_sectors);
	atomic64_set(&idx->nr_changed, 0);
	mutex_init(&idx->lock);
	xa_init(&idx->pages);
	INIT_LIST_HEAD(&idx->lru);
	esnap_index_set_cache(idx, cache_size);

	err = esnap_bitmap_init(&idx->changed, idx->nr_blocks);
	if (err)
		return err;
	err = esnap_bitmap_init(&idx->window, idx->nr_blocks);
	if (err)
		goto err_changed;
	nr_index_pages = DIV_ROUND_UP_ULL(idx->nr_blocks, ESNAP_PAGE_ENTRIES);
	idx->stored = kvcalloc(BITS_TO_LONGS(nr_index_pages), sizeof(long), GFP_KERNEL);
	if (!idx->stored) {
		err = -ENOMEM;
		goto err_window;
	}
	return 0;

err_window:
	esnap_bitmap_free(&idx->window);
err_changed:
	esnap_bitmap_free(&idx->changed);
	return err;
}

void esnap_index_free(struct esnap_index *idx)
{
	esnap_index_drop_mapping(idx);
	kvfree(idx->stored);
	esnap_bitmap_free(&idx->window);
	esnap_bitmap_free(&idx->changed);
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
	struct esnap_bitmap *other = bm == &idx->window ? &idx->changed : &idx->window;
	u64 block;

	for (block = esnap_bitmap_next_zero(bm, first, last); block <= last;
	     block = esnap_bitmap_next_zero(bm, block + 1, last))
		if (!esnap_bitmap_test_and_set(bm, block) &&
		    !esnap_bitmap_test(other, block))
			atomic64_inc(&idx->nr_changed);
}

int esnap_index_merge_window(struct esnap_index *idx)
{
	u64 last = idx->nr_blocks - 1;
	u64 block;

	for (block = esnap_bitmap_next_set(&idx->window, 0, last); block <= last;
	     block = esnap_bitmap_next_set(&idx->window, block + 1, last)) {
		int err = esnap_bitmap_prepare(&idx->changed, block, block);

		if (err)
			return err;
		esnap_bitmap_test_and_set(&idx->changed, block);
	}
	return 0;
}

/* --- the mapping ----------------------------------------------------------- */

void esnap_index_set_cache(struct esnap_index *idx, u64 cache_size)
{
	/* The format's rule: 24 bytes of each section count too. */
	u64 fixed = 24 * idx->nr_sections;
	u64 sections = cache_size <= fixed ? 0 : (cache_size - fixed) / ELASTIO_SNAP_SECTION_SIZE;
	u64 pages = sections * (ELASTIO_SNAP_SECTION_SIZE / PAGE_SIZE);

	WRITE_ONCE(idx->max_pages, clamp_t(u64, pages, MIN_PAGES, ULONG_MAX));
}

static void free_index_page(struct esnap_index *idx, struct index_page *ip)
{
	list_del(&ip->lru);
	xa_erase(&idx->pages, ip->nr);
	idx->nr_pages--;
	__free_page(ip->page);
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

/* Writes out and frees the least used pages until @target are left. */
static int evict(struct esnap_index *idx, unsigned long target)
{
	while (idx->nr_pages > target) {
		struct esnap_sync_sio sync;
		struct esnap_writer writer;
		struct index_page *ip, *next;
		LIST_HEAD(batch);
		unsigned long n = 0;
		int err;

		esnap_sync_sio_init(&sync);
		esnap_writer_start(&writer, idx->store, &sync.sio);
		list_for_each_entry_safe(ip, next, &idx->lru, lru) {
			if (n == EVICT_BATCH || idx->nr_pages - n <= target)
				break;
			list_move_tail(&ip->lru, &batch);
			if (ip->dirty)
				esnap_writer_add(&writer, 1 + ip->nr, ip->page);
			n++;
		}
		esnap_writer_finish(&writer);
		err = esnap_sync_sio_wait(&sync);
		if (err) {
			list_splice(&batch, &idx->lru);
			return err;
		}
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
		err = evict(idx, limit - min_t(unsigned long, limit / 2, EVICT_BATCH));
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

/*
 * An origin whose size is no multiple of a block has a last block that can lie
 * behind the index area (spec 4); the format has no place for it there.
 */
int esnap_index_write(struct esnap_index *idx, struct file *file)
{
	u64 last = min(idx->nr_blocks, idx->nr_sections * ELASTIO_SNAP_SECTION_ENTRIES) - 1;
	__le64 *entries = (void *)__get_free_page(GFP_KERNEL);
	u64 block = 0;
	int err = 0;

	if (!entries)
		return -ENOMEM;
	while (!err) {
		u64 first, b;
		loff_t pos;
		ssize_t n;

		block = min(esnap_bitmap_next_set(&idx->changed, block, last),
			    esnap_bitmap_next_set(&idx->window, block, last));
		if (block > last)
			break;
		first = round_down(block, ESNAP_PAGE_ENTRIES);
		clear_page(entries);
		for (b = first; b <= last && b < first + ESNAP_PAGE_ENTRIES; b++)
			if (esnap_bitmap_test(&idx->changed, b) ||
			    esnap_bitmap_test(&idx->window, b))
				entries[b - first] = cpu_to_le64(ELASTIO_SNAP_ENTRY_CHANGED);
		pos = ELASTIO_SNAP_HEADER_SIZE + first * sizeof(*entries);
		n = kernel_write(file, entries, PAGE_SIZE, &pos);
		if (n != PAGE_SIZE)
			err = n < 0 ? n : -EIO;
		block = first + ESNAP_PAGE_ENTRIES;
		cond_resched();
	}
	free_page((unsigned long)entries);
	return err;
}
