// SPDX-License-Identifier: GPL-2.0-only
/*
 * What was saved and has not landed in the store yet: the tree of an epoch's
 * saves, and the memory that they are made of.
 *
 * Nothing here waits for memory: there is a reserve with which one can always
 * go on once something has ended.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "tracker.h"

/* Reserves: with the pages a full run can be read and still be described. */
#define SAVE_RESERVE 256
#define PAGE_RESERVE (2 * ESNAP_RUN_BLOCKS)

static struct kmem_cache *save_cache;

int esnap_save_module_init(void)
{
	save_cache = KMEM_CACHE(esnap_save, 0);
	return save_cache ? 0 : -ENOMEM;
}

void esnap_save_module_exit(void)
{
	kmem_cache_destroy(save_cache);
}

/* --- memory ---------------------------------------------------------------- */

/*
 * Used pages are used again before new ones are had: many kernels clear each
 * page that they give, which costs as much as a copy.  There are PAGE_RESERVE
 * pages at least, in use or not.
 */
static struct page *get_free_page(struct esnap_save_pool *pool)
{
	struct page *page;

	spin_lock(&pool->page_lock);
	page = list_first_entry_or_null(&pool->free_pages, struct page, lru);
	if (page) {
		list_del(&page->lru);
		pool->nr_free_pages--;
	}
	spin_unlock(&pool->page_lock);
	return page ?: alloc_page(ESNAP_SAVE_GFP);
}

static void put_free_page(struct esnap_save_pool *pool, struct page *page)
{
	bool keep;

	spin_lock(&pool->page_lock);
	keep = pool->nr_free_pages < PAGE_RESERVE;
	if (keep) {
		list_add(&page->lru, &pool->free_pages);
		pool->nr_free_pages++;
	}
	spin_unlock(&pool->page_lock);
	if (!keep)
		esnap_store_free_page(page);
}

static void free_all_pages(struct esnap_save_pool *pool)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &pool->free_pages, lru)
		esnap_store_free_page(page);
}

static int alloc_page_reserve(struct esnap_save_pool *pool)
{
	spin_lock_init(&pool->page_lock);
	INIT_LIST_HEAD(&pool->free_pages);
	pool->nr_free_pages = 0;
	while (pool->nr_free_pages < PAGE_RESERVE) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page) {
			free_all_pages(pool);
			return -ENOMEM;
		}
		put_free_page(pool, page);
	}
	return 0;
}

static struct esnap_save *get_free_save(struct esnap_save_pool *pool)
{
	struct esnap_save *save;

	spin_lock(&pool->page_lock);
	save = list_first_entry_or_null(&pool->free_saves, struct esnap_save, list);
	if (save) {
		list_del(&save->list);
		pool->nr_free_saves--;
	}
	spin_unlock(&pool->page_lock);
	return save ?: kmem_cache_alloc(save_cache, ESNAP_SAVE_GFP);
}

static void free_pages_of(struct esnap_save_pool *pool, struct esnap_save *save)
{
	u32 i;

	for (i = 0; i < save->nr; i++)
		put_free_page(pool, save->pages[i]);
	if (save->pages != save->inline_pages)
		put_free_page(pool, virt_to_page(save->pages));
	atomic_sub(save->nr, &pool->nr_pages);
}

static void free_all_saves(struct esnap_save_pool *pool)
{
	struct esnap_save *save, *next;

	list_for_each_entry_safe(save, next, &pool->free_saves, list)
		kmem_cache_free(save_cache, save);
}

static int alloc_save_reserve(struct esnap_save_pool *pool)
{
	INIT_LIST_HEAD(&pool->free_saves);
	for (pool->nr_free_saves = 0; pool->nr_free_saves < SAVE_RESERVE; pool->nr_free_saves++) {
		struct esnap_save *save = kmem_cache_alloc(save_cache, GFP_KERNEL);

		if (!save) {
			free_all_saves(pool);
			return -ENOMEM;
		}
		list_add(&save->list, &pool->free_saves);
	}
	return 0;
}

int esnap_save_pool_init(struct esnap_save_pool *pool)
{
	int err;

	atomic_set(&pool->nr_pages, 0);
	err = alloc_page_reserve(pool);
	if (err)
		return err;
	err = alloc_save_reserve(pool);
	if (err)
		free_all_pages(pool);
	return err;
}

void esnap_save_pool_exit(struct esnap_save_pool *pool)
{
	free_all_saves(pool);
	free_all_pages(pool);
}

static void free_save(struct esnap_save_pool *pool, struct esnap_save *save)
{
	bool keep;

	free_pages_of(pool, save);
	spin_lock(&pool->page_lock);
	keep = pool->nr_free_saves < SAVE_RESERVE;
	if (keep) {
		list_add(&save->list, &pool->free_saves);
		pool->nr_free_saves++;
	}
	spin_unlock(&pool->page_lock);
	if (!keep)
		kmem_cache_free(save_cache, save);
}

struct esnap_save *esnap_save_alloc(struct esnap_epoch *ep, u64 first, u32 nr)
{
	struct esnap_save_pool *pool = &ep->tracker->save_pool;
	struct esnap_save *save = get_free_save(pool);

	if (!save)
		return NULL;
	save->pages = save->inline_pages;
	if (nr > ESNAP_INLINE_PAGES) {
		struct page *array = get_free_page(pool);

		if (array)
			save->pages = page_address(array);
		else
			nr = ESNAP_INLINE_PAGES;
	}
	for (save->nr = 0; save->nr < nr; save->nr++) {
		save->pages[save->nr] = get_free_page(pool);
		if (!save->pages[save->nr])
			break;
	}
	atomic_add(save->nr, &pool->nr_pages);
	if (!save->nr) {
		free_save(pool, save);
		return NULL;
	}
	refcount_set(&save->refs, 1);
	save->epoch = ep;
	save->first = first;
	save->status = BLK_STS_OK;
	bio_list_init(&save->waiters);
	return save;
}

void esnap_save_free(struct esnap_save *save)
{
	free_save(&save->epoch->tracker->save_pool, save);
}

/* --- the tree -------------------------------------------------------------- */

/* The save that holds @block, or else the next one behind it. */
static struct esnap_save *find_save(struct esnap_epoch *ep, u64 block)
{
	struct rb_node *node = ep->saves.rb_node;
	struct esnap_save *next = NULL;

	lockdep_assert_held(&ep->lock);
	while (node) {
		struct esnap_save *save = rb_entry(node, struct esnap_save, node);

		if (block < save->first) {
			next = save;
			node = node->rb_left;
		} else if (block >= save->first + save->nr) {
			node = node->rb_right;
		} else {
			return save;
		}
	}
	return next;
}

void esnap_save_insert(struct esnap_save *new)
{
	struct esnap_epoch *ep = new->epoch;
	struct rb_node **link = &ep->saves.rb_node;
	struct rb_node *parent = NULL;

	spin_lock(&ep->lock);
	while (*link) {
		struct esnap_save *save = rb_entry(*link, struct esnap_save, node);

		parent = *link;
		link = new->first < save->first ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&new->node, parent, link);
	rb_insert_color(&new->node, &ep->saves);
	ep->nr_saves++;
	spin_unlock(&ep->lock);
}

void esnap_save_put(struct esnap_save *save)
{
	struct esnap_copy *c = &save->epoch->tracker->copy;

	if (!refcount_dec_and_test(&save->refs))
		return;
	esnap_save_free(save);
	/* Somebody may have waited for the memory. */
	queue_work(c->save_wq, &c->save_work);
}

void esnap_save_remove(struct esnap_save *save)
{
	struct esnap_epoch *ep = save->epoch;
	struct esnap_copy *c = &ep->tracker->copy;
	bool last;

	spin_lock(&ep->lock);
	rb_erase(&save->node, &ep->saves);
	last = !--ep->nr_saves;
	spin_unlock(&ep->lock);
	esnap_save_put(save);
	if (last)
		esnap_copy_wake(c);
}

struct esnap_save *esnap_save_covering(struct esnap_epoch *ep, u64 block, u64 *last)
{
	struct esnap_save *save;

	spin_lock(&ep->lock);
	save = find_save(ep, block);
	if (save && save->first > block) {
		*last = min(*last, save->first - 1);
		save = NULL;
	}
	spin_unlock(&ep->lock);
	return save;
}

struct esnap_save *esnap_save_find(struct esnap_epoch *ep, u64 block)
{
	struct esnap_save *save;

	spin_lock(&ep->lock);
	save = find_save(ep, block);
	if (save && save->first <= block)
		refcount_inc(&save->refs);
	else
		save = NULL;
	spin_unlock(&ep->lock);
	return save;
}

struct page *esnap_save_page(struct esnap_save *save, u64 block)
{
	return save->pages[block - save->first];
}
