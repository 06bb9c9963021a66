/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_SAVE_H
#define ESNAP_SAVE_H

#include <linux/bio.h>
#include <linux/gfp.h>
#include <linux/llist.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>

struct esnap_epoch;

/*
 * On the I/O path nobody waits for memory; nor does anybody take what is kept for
 * reclaim, should it be reclaim that writes.
 */
#define ESNAP_SAVE_GFP (GFP_NOWAIT | __GFP_NOWARN | __GFP_NOMEMALLOC)

#define ESNAP_INLINE_PAGES 4

/*
 * The old content of a run of blocks, from the start of its read until it has
 * landed in the store.
 */
struct esnap_save {
	struct rb_node node;
	refcount_t refs;
	struct esnap_epoch *epoch;
	u64 first;
	u32 nr;
	blk_status_t status;
	/* Who has begun it: to be compared, never looked at. */
	const struct task_struct *saver;
	/* Bios that wait for the read; under the save lock. */
	struct bio_list waiters;
	union {
		struct llist_node read_done;
		struct list_head list;
	};
	struct page **pages;
	/* For few blocks; more have a page of pointers, and a bio of a bioset. */
	struct page *inline_pages[ESNAP_INLINE_PAGES];
	struct bio_vec inline_vecs[ESNAP_INLINE_PAGES];
	struct bio inline_bio;
};

/* The memory for a tracker's saves. */
struct esnap_save_pool {
	/* Protects the lists below. */
	spinlock_t page_lock;
	struct list_head free_saves;
	u32 nr_free_saves;
	struct list_head free_pages;
	u32 nr_free_pages;
	/* In use. */
	atomic_t nr_pages;
};

/* Once per module. */
int esnap_save_module_init(void);
void esnap_save_module_exit(void);

/* May sleep.  The exit wants all saves gone. */
int esnap_save_pool_init(struct esnap_save_pool *pool);
void esnap_save_pool_exit(struct esnap_save_pool *pool);

/*
 * As many pages as can be had, up to @nr, for the content from @first on, with
 * one reference; or NULL.  Does not sleep.
 */
struct esnap_save *esnap_save_alloc(struct esnap_epoch *ep, u64 first, u32 nr);

/* Undoes esnap_save_alloc(). */
void esnap_save_free(struct esnap_save *save);

/* Into the tree, for others to find, and out of it, with the first reference. */
void esnap_save_insert(struct esnap_save *save);
void esnap_save_remove(struct esnap_save *save);

/*
 * The save that has @block's old content, without a reference, or NULL: then
 * @last is lowered to the last block before the next save.
 */
struct esnap_save *esnap_save_covering(struct esnap_epoch *ep, u64 block, u64 *last);

/*
 * The save that has @block's old content in memory, with a reference, or NULL:
 * then it is in the store, if the block was saved.  Process context.
 */
struct esnap_save *esnap_save_find(struct esnap_epoch *ep, u64 block);
struct page *esnap_save_page(struct esnap_save *save, u64 block);
void esnap_save_put(struct esnap_save *save);

#endif /* ESNAP_SAVE_H */
