/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_INDEX_H
#define ESNAP_INDEX_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

#include "changes.h"
#include "store.h"

struct file;

/* Index pages that are written out, or read, together. */
#define ESNAP_INDEX_BATCH 64

/* The first page is always there: while writes are held none may be to be had. */
struct esnap_page_batch {
	struct page *pages[ESNAP_INDEX_BATCH];
	unsigned int nr;
};

/*
 * The index of one snapshot instant.
 *
 * Which blocks changed is in bitmaps, which the hook tests and marks without a
 * lock.  Where the old content of a block is in the COW file (the mapping) is
 * in pages of 512 entries in the COW file's own format; they live in a cache
 * and go to the index area of the store when there are too many.
 *
 * While a snapshot is active, @changes.changed means saved: a block is in it
 * only when its old content is safe.  What was written between the start of
 * marking and the instant is in @changes.window; such a block has changed, but
 * is not saved.
 */
struct esnap_index {
	struct esnap_store *store;
	u64 nr_sections;
	struct esnap_changes changes;
	atomic64_t nr_changed;

	/* Protects all that follows; held across reads and writes of the store. */
	struct mutex lock;
	struct xarray pages;
	struct list_head lru;
	unsigned long nr_pages;
	unsigned long max_pages;
	/* Pages that are in the store; all others are zero without reading. */
	unsigned long *stored;

	/* For esnap_index_save() and esnap_index_load(), which nobody calls at once. */
	struct esnap_page_batch batch;
};

/* Sections of the index of an origin of so many sectors; spec 4. */
u64 esnap_index_sections(u64 nr_sectors);

/* Number of the first data block of a COW file with so many sections. */
static inline u64 esnap_first_data_block(u64 nr_sections)
{
	return 1 + nr_sections * (ELASTIO_SNAP_SECTION_SIZE / ELASTIO_SNAP_BLOCK_SIZE);
}

/* May sleep. */
int esnap_index_init(struct esnap_index *idx, u64 nr_sectors, u64 cache_size,
		     struct esnap_store *store);
void esnap_index_free(struct esnap_index *idx);

/*
 * Mark blocks in @bm (one of the index's own), whose pages must exist; counts
 * those that had not changed before.  Any context.
 */
void esnap_index_mark(struct esnap_index *idx, struct esnap_bitmap *bm, u64 first, u64 last);

/* Adds what the window saw to what changed.  -ENOMEM leaves it as it was. */
int esnap_index_merge_window(struct esnap_index *idx);

/* The limit of the mapping's cache in bytes; applies from the next use on. */
void esnap_index_set_cache(struct esnap_index *idx, u64 cache_size);

/*
 * Old content of @nr blocks from @block on is at @cow_block and what follows; a
 * block that has its old content in the store already keeps that.  Sleeps, may
 * read and write the store; the caller holds a use of it.
 */
int esnap_index_map(struct esnap_index *idx, u64 block, u64 nr, u64 cow_block);

/* Where the old content of a saved block is.  As esnap_index_map(). */
int esnap_index_lookup(struct esnap_index *idx, u64 block, u64 *cow_block);

/* Forget the mapping: incremental mode needs none. */
void esnap_index_drop_mapping(struct esnap_index *idx);

/* Write the index area through the VFS: 1 for each block that changed. */
int esnap_index_write(struct esnap_index *idx, struct file *file);

/*
 * Write the index area raw, with the mapping or with 1 for each block that
 * changed; nobody marks or maps meanwhile.  @groups is set to what was written
 * and @tail to the entry for which the area has no room.  Sleeps; the caller
 * holds a use of the store.
 */
int esnap_index_save(struct esnap_index *idx, bool mapping, void *groups, u64 *tail);

/*
 * Add what esnap_index_save() wrote.  @end: all data blocks in it are below.
 * -EINVAL: that is no such index.  As the former.
 */
int esnap_index_load(struct esnap_index *idx, bool mapping, const void *groups, u64 tail,
		     u64 end);

#endif /* ESNAP_INDEX_H */
