/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_STORE_H
#define ESNAP_STORE_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/rcupdate.h>
#include <linux/wait.h>

#include "esnap.h"

/* A run of sectors of the COW file and where they are on the origin. */
struct esnap_extent {
	u64 file_sector;
	u64 disk_sector;
	u64 nr_sectors;
};

/*
 * The extents of a COW file, without holes from its first sector on.  Never
 * changed after it was made; the hook looks in it under RCU.
 */
struct esnap_map {
	struct rcu_head rcu;
	struct esnap_extent *by_file;
	struct esnap_extent *by_disk;
	u32 nr;
	/* Some extent begins or ends inside a block of the origin. */
	bool unaligned;
};

/* Takes over @extents (kvmalloc), sorted by file.  May sleep. */
struct esnap_map *esnap_map_make(struct esnap_extent *extents, u32 nr);

/* Frees after a grace period when the hook could see it.  NULL is allowed. */
void esnap_map_free(struct esnap_map *map);
void esnap_map_free_rcu(struct esnap_map *map);

/* The first @nr_sectors of the file only, as a map of its own; NULL: no memory. */
struct esnap_map *esnap_map_clip(const struct esnap_map *map, u64 nr_sectors);

/* Sectors of the file. */
u64 esnap_map_sectors(const struct esnap_map *map);

bool esnap_map_equal(const struct esnap_map *a, const struct esnap_map *b);

/*
 * The store: raw I/O on the extents of the COW file.
 *
 * Whoever does I/O holds a use; closing waits for all uses, which is what must
 * have happened before the extents may be given back to the filesystem.
 */
struct esnap_store {
	/* The extents' sectors count from sector @base of @target. */
	struct esnap_target target;
	u64 base;
	/* The number that the disk had then; with another it has another medium. */
	u64 diskseq;
	struct esnap_map __rcu *map;
	struct bio_set bios;
	atomic_t users;
	bool closed;
	wait_queue_head_t idle;
};

/* Several bios that end as one. */
struct esnap_sio {
	atomic_t pending;
	int error;
	/* Called once, in interrupt context or in that of the last put. */
	void (*done)(struct esnap_sio *sio);
};

/* May sleep.  Without a map; nothing is read or written before it is aimed. */
int esnap_store_init(struct esnap_store *st);

/* From here on the store is on @target, whose sector @base is the origin's first. */
void esnap_store_aim(struct esnap_store *st, struct esnap_target target, u64 base);

/* The medium that the disk has now is taken for the store's; what is read there must prove it. */
void esnap_store_accept_medium(struct esnap_store *st);

/* May sleep; the store is closed. */
void esnap_store_free(struct esnap_store *st);

/* Any context.  False: the store is closed. */
bool esnap_store_get(struct esnap_store *st);
void esnap_store_put(struct esnap_store *st);

/* No use is given any more; waits for those that are out.  May be repeated. */
void esnap_store_close(struct esnap_store *st);

/* Undoes esnap_store_close(); nobody else is at it. */
void esnap_store_reopen(struct esnap_store *st);

/* Does the store own any of these sectors of the origin?  Any context. */
bool esnap_store_overlaps(struct esnap_store *st, u64 sector, u64 nr);

/* Are there blocks of the origin that are the store's in part?  Under RCU. */
static inline bool esnap_store_shares_blocks(struct esnap_store *st)
{
	const struct esnap_map *map = rcu_dereference(st->map);

	return map && map->unaligned;
}

/*
 * The first run of the store's sectors within [sector, sector + nr) of the
 * origin: its first sector, and its length in @run; @run is 0 for none.
 */
u64 esnap_store_next_own(struct esnap_store *st, u64 sector, u64 nr, u64 *run);

/*
 * Where @file_sector of the COW file is on the origin; @run is lowered to the
 * sectors that follow without a break.  The caller holds a use.
 */
u64 esnap_store_sector(struct esnap_store *st, u64 file_sector, u64 *run);

/* A sio that one can wait for. */
struct esnap_sync_sio {
	struct esnap_sio sio;
	struct completion completion;
};

void esnap_sync_sio_init(struct esnap_sync_sio *sync);
int esnap_sync_sio_wait(struct esnap_sync_sio *sync);

/*
 * Reads or writes pages, which are added in ascending blocks of the COW file,
 * with as few bios as can be.  Fails with -ENODEV, untried, when the disk reports
 * another medium than the one that the store was aimed at.
 */
struct esnap_transfer {
	struct esnap_store *st;
	struct esnap_sio *sio;
	blk_opf_t op;
	struct bio *bio;
	u64 next_sector;
};

/* May sleep until bios of the store's own come back.  The caller holds a use. */
void esnap_transfer_start(struct esnap_transfer *x, struct esnap_store *st, blk_opf_t op,
			  struct esnap_sio *sio);
/* A @page that is written is freed with esnap_store_free_page(), and its private is the store's. */
void esnap_transfer_add(struct esnap_transfer *x, u64 cow_block, struct page *page);
void esnap_transfer_finish(struct esnap_transfer *x);

/* Reads or writes one block of the COW file and waits.  The caller holds a use. */
int esnap_store_rw_block(struct esnap_store *st, blk_opf_t op, u64 cow_block,
			 struct page *page);

/*
 * Does this come from a store of the disk that it is sent to?  A disk that splits a
 * bio into parts (md) may submit what is left of it to itself, as a bio that shows
 * nothing of the first one but its pages; and it may pass a bio on to another disk,
 * where it is none of that disk's stores.  Any context.
 */
bool esnap_store_has_sent(struct bio *bio);

/* Frees a page that may have been written to a store. */
void esnap_store_free_page(struct page *page);

#endif /* ESNAP_STORE_H */
