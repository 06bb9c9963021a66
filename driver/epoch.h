/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_EPOCH_H
#define ESNAP_EPOCH_H

#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/spinlock.h>

#include "cowfile.h"
#include "index.h"
#include "store.h"

struct esnap_tracker;

/* What happens to a write to the origin. */
enum esnap_mode {
	/* Nothing: the epoch failed, or it is being taken down. */
	ESNAP_PASS,
	/* It is marked: the instant has not come yet. */
	ESNAP_WINDOW,
	/* It is marked. */
	ESNAP_INCREMENTAL,
	/* It waits until the old content is saved. */
	ESNAP_SNAPSHOT,
};

/* What the COW file on disk says of itself, and what a new change must wait for. */
enum esnap_seal {
	/* That it is in use: nothing. */
	ESNAP_OPEN,
	/* It is being closed: until that has ended. */
	ESNAP_CLOSING,
	/* That it is complete: until it does not say so any more. */
	ESNAP_CLEAN,
};

/*
 * All that belongs to one snapshot instant.  A tracker has one epoch, and for
 * the time of a transition to the next snapshot two, both of which see every
 * write.
 */
struct esnap_epoch {
	struct esnap_tracker *tracker;
	/*
	 * Read without a lock by the hook.  Set to PASS, with a barrier, before
	 * any write is let go unsaved; leaves PASS never.
	 */
	enum esnap_mode mode;
	/* No hook acts by the mode before the instant any more: saving may begin. */
	bool settled;
	/* 0, or the first failure: a negative errno. */
	int error;
	/* Read without a lock by the hook; see seal.h. */
	enum esnap_seal seal;
	/*
	 * Its filesystem is not there: the image does not answer, and what is
	 * saved stays in memory.
	 */
	bool parked;

	u64 seqid;
	u8 uuid[16];
	struct esnap_index index;
	struct esnap_store store;
	struct esnap_cowfile cowfile;
	char *cow_path;
	u64 first_data_block;
	/* Protects the header on disk. */
	struct mutex seal_lock;
	/* The raw header as it is on disk, and a page to read what is there into. */
	struct page *header;
	struct page *found;

	/* Protects the saves and what follows. */
	spinlock_t lock;
	struct rb_root saves;
	unsigned int nr_saves;
	struct list_head unstored;
	u64 nr_unstored;
	unsigned long flush_at;
	/* Data blocks promised to saves, and saves being read; only the save worker's. */
	u64 nr_reserved;
	unsigned int nr_reading;
	/* When the first of them began or, if that was later, the last one ended; in jiffies. */
	unsigned long read_at;
	/* The next free data block; only the store worker's. */
	u64 next_cow_block;
};

/*
 * Makes the COW file and all that an epoch needs, unpublished.  @size_mib 0:
 * the default.  The caller holds @sb active.  Errors of spec 2.1, 7 to 11;
 * nothing is left behind then.  Sleeps.
 */
struct esnap_epoch *esnap_epoch_create(struct esnap_tracker *t, struct super_block *sb,
				       const char *cow, u64 size_mib, u64 seqid,
				       const u8 uuid[16]);

/*
 * An epoch whose COW file will be found when its filesystem is mounted: it is
 * parked, and its seal open.  @cow: the path as it was given.  Sleeps.
 */
struct esnap_epoch *esnap_epoch_expect(struct esnap_tracker *t, const char *cow);

/* Unpublished, drained, store closed, cowfile unpinned.  Sleeps. */
void esnap_epoch_free(struct esnap_epoch *ep);

/*
 * The snapshot instant: freezes the filesystem and lets @ep hold writes from
 * then on.  On an error @ep is unpublished again, and may have stored something.
 * Sleeps.
 */
int esnap_epoch_publish(struct esnap_epoch *ep, unsigned int slot, struct super_block *sb);

/* Lets the hooks see a new epoch that marks or holds from the start.  Sleeps. */
void esnap_epoch_publish_expected(struct esnap_epoch *ep);

/* No hook and no worker looks at @ep after this.  Sleeps. */
void esnap_epoch_unpublish(struct esnap_epoch *ep);

/*
 * Gives the space behind the index back to the filesystem.  The store is closed
 * and the filesystem active.  A failure is logged and harmless.  Sleeps.
 */
void esnap_epoch_shrink(struct esnap_epoch *ep);

/*
 * All sectors of @other's COW file have changed since @ep's instant, as far as is
 * known.  @ep is incremental; both are of one tracker.  Sleeps.
 */
void esnap_epoch_mark_store_of(struct esnap_epoch *ep, const struct esnap_epoch *other);

/* What the header of the COW file is to say now. */
void esnap_epoch_header(const struct esnap_epoch *ep, u32 flags, struct esnap_header *header);

/*
 * The old COW file, for user space: index and header, through the VFS.  @ep is
 * unpublished and its cowfile pinned still; @neighbour is a path on the same
 * filesystem.  Sleeps.
 */
int esnap_epoch_write_out(struct esnap_epoch *ep, const char *neighbour);

/*
 * The first failure of an epoch: from here on it answers nothing and holds
 * nothing.  Any context but NMI.
 */
void esnap_fail(struct esnap_epoch *ep, int error, const char *why);

/* Does the image answer? */
static inline bool esnap_epoch_readable(const struct esnap_epoch *ep)
{
	return READ_ONCE(ep->mode) == ESNAP_SNAPSHOT && !READ_ONCE(ep->parked);
}

/*
 * May this write to the sectors [sector, sector + nr) of the origin be
 * submitted now?  False: it must be held.  Called by the hook under RCU.
 */
bool esnap_epoch_admits(struct esnap_epoch *ep, struct bio *bio, u64 sector, u64 nr);

#endif /* ESNAP_EPOCH_H */
