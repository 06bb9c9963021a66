/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_TRACKER_H
#define ESNAP_TRACKER_H

#include <linux/blkdev.h>
#include <linux/mutex.h>
#include <linux/rculist.h>

#include "copy.h"
#include "epoch.h"
#include "land.h"
#include "save.h"

struct esnap_image;

/* In whose hands a tracker is; changes under the inner lock. */
enum esnap_phase {
	/* The filesystem is mounted: whoever holds it active. */
	ESNAP_ACTIVE,
	/* Its filesystem is coming or going: the superblock hook's that sees it. */
	ESNAP_MOVING,
	/* The filesystem was unmounted, and is expected again. */
	ESNAP_DORMANT,
	/* It was announced, and its filesystem was not mounted since. */
	ESNAP_UNVERIFIED,
	/* It failed, and has nothing of its filesystem any more. */
	ESNAP_STOPPED,
};

struct esnap_tracker {
	unsigned int minor;
	bool ignore_errors;
	/*
	 * The state as users see it; changes under the inner lock, by whoever has
	 * the tracker.
	 */
	u64 state;
	enum esnap_phase phase;
	/* An ioctl is at work, although no filesystem keeps the hooks away. */
	bool held;
	/* As it was asked for; 0: the default. */
	u64 cache_size;

	/* The filesystem and the origin it has open; NULL unless it is there. */
	struct super_block *sb;
	struct block_device *bdev;
	dev_t dev;
	/* Not a reference: only good to compare with, together with @diskseq. */
	struct gendisk *disk;
	u64 diskseq;
	/* The origin on its disk, in sectors. */
	u64 start;
	u64 nr_sectors;
	/* As users see it; resolved unless it is unverified. */
	char *bdev_path;
	/* What takes its place then. */
	char *resolved_path;
	/* Of the filesystem when it was announced. */
	u64 fingerprint;
	/* Changes before that are known to be lost, or could have been missed since. */
	bool stale;

	/* In the registry, under RCU. */
	struct hlist_node node;
	/* What the hook sees.  A slot never changes from one epoch to another. */
	struct esnap_epoch __rcu *slots[2];
	/* The epoch that users see; changes under the inner lock. */
	struct esnap_epoch *current_epoch;
	/* What had changed at its instant, while it is in snapshot mode; outer lock. */
	struct esnap_changes before;

	struct esnap_image *image;
	struct esnap_copy copy;
	struct esnap_save_pool save_pool;
	struct esnap_land land;
	/* Nothing of the origin is held any more: it failed, or is going. */
	bool stopped;
};

/*
 * Locks, outermost first:
 *
 * outer: the ioctls, one at a time.  No hook and no worker of the I/O path
 *        takes it.
 * inner: the table of trackers, their phases, and what INFO and /proc read.  The
 *        superblock hooks take it; it is a leaf, held across nothing that waits.
 *
 * What happens to a tracker is decided by its phase.  An ioctl takes it with
 * esnap_tracker_hold(): an active reference on the superblock, given back last,
 * so that the filesystem cannot end meanwhile; or, where there is none, a mark
 * that the hooks wait for.  A hook takes it by making it MOVING, and ioctls wait
 * for that.  No hook waits for an ioctl that could wait for the hook's own
 * filesystem: it waits only for marks, with which no filesystem is touched.
 */
extern struct mutex esnap_outer_lock;
extern struct mutex esnap_inner_lock;

/* In snapshot mode, active or not?  For whoever has the tracker, and its workers. */
static inline bool esnap_tracker_is_snapshot(const struct esnap_tracker *t)
{
	return READ_ONCE(t->state) & ELASTIO_SNAP_STATE_SNAPSHOT;
}

/* Was it announced, and its filesystem not mounted since?  Outer or inner lock. */
static inline bool esnap_tracker_is_unverified(const struct esnap_tracker *t)
{
	return READ_ONCE(t->state) & ELASTIO_SNAP_STATE_UNVERIFIED;
}

/*
 * For the workers and whoever else saves: who takes an epoch away waits for them
 * after it (esnap_copy_sync()).
 */
static inline struct esnap_epoch *esnap_worker_epoch(struct esnap_tracker *t, int slot)
{
	return rcu_dereference_raw(t->slots[slot]);
}

/*
 * Keeps the hooks away until esnap_tracker_unhold().  Returns the tracker's
 * filesystem, active, or NULL when it is not mounted.  Outer lock; sleeps until
 * a hook has finished.
 */
struct super_block *esnap_tracker_hold(struct esnap_tracker *t);
void esnap_tracker_unhold(struct esnap_tracker *t, struct super_block *sb);

/*
 * For the hooks: a tracker is theirs, when its phase lets it, until they end
 * that.  @want: whether it is one that they look for; under the inner lock.
 * NULL: there is none.  Sleeps until no ioctl has a mark on it.
 */
struct esnap_tracker *esnap_tracker_take(bool (*want)(const struct esnap_tracker *t,
						      const struct super_block *sb),
					 const struct super_block *sb, unsigned int from);
void esnap_tracker_give(struct esnap_tracker *t, enum esnap_phase phase);

/* A tracker that somebody may wait for is gone. */
void esnap_tracker_announce_handover(void);

/* A new tracker of the device at @path, which @origin is set to.  Sleeps. */
struct esnap_tracker *esnap_tracker_create(unsigned int minor, const char *path,
					   struct esnap_bdev *origin);

/*
 * Does the origin's disk report another medium, or the old one anew?  Where disks
 * have no number it never does.  The disk is kept alive by somebody.  Any context.
 */
static inline bool esnap_origin_is_exchanged(const struct esnap_tracker *t)
{
	return t->diskseq != esnap_diskseq(t->disk);
}

/*
 * Is this a write to the origin's disk that shows that the origin is not what it
 * was, so that not everything can be tracked?  0: no; otherwise the errno that the
 * tracker fails with, and why.  The bio keeps its disk alive.  Any context.
 */
int esnap_origin_misses(const struct esnap_tracker *t, struct bio *bio, const char **why);

/* It has nothing left but itself. */
void esnap_tracker_free(struct esnap_tracker *t);

/*
 * The filesystem that is mounted for writing from @bdev and that the COW file is
 * to be on, active; nothing is created yet.  Returns an errno of spec 2.1.
 */
struct super_block *esnap_origin_super(struct esnap_tracker *t, struct block_device *bdev,
				       const char *cow);

struct esnap_setup {
	const char *bdev;
	const char *cow;
	u64 cow_size_mib;
	u64 cache_size;
	unsigned int minor;
	bool ignore_errors;
};

/* The ioctls; each returns 0 or the errno of spec 2.  They sleep. */
int esnap_setup(const struct esnap_setup *setup);
int esnap_destroy(unsigned int minor);
int esnap_transition_inc(unsigned int minor);
int esnap_transition_snap(unsigned int minor, const char *cow, u64 cow_size_mib);
int esnap_reconfigure(unsigned int minor, u64 cache_size);

/*
 * Fills @extents (room for @params->max_extents) and the parameters that go out.
 */
int esnap_tracker_changes(struct elastio_snap_changes_params *params,
			  struct elastio_snap_changed *extents);

struct esnap_reload {
	const char *bdev;
	const char *cow;
	u64 cache_size;
	unsigned int minor;
	bool snapshot;
	bool ignore_errors;
};

int esnap_reload(const struct esnap_reload *reload);

/*
 * What a tracker that is not active has recorded, or has failed to, goes with it:
 * its origin is not to be taken up again, even if its filesystem does not show
 * that it changed.  Outer lock.
 */
void esnap_reload_forget(const struct esnap_tracker *t);

/* A new snapshot of the origin depends on nothing before it.  Outer lock. */
void esnap_reload_renew(const struct esnap_tracker *t);

/* As the module goes. */
void esnap_reload_exit(void);

/* Ends every tracker, as the module goes.  Sleeps. */
void esnap_destroy_all(void);

/* When it has failed: give back what it holds of the origin.  Outer lock; sleeps. */
void esnap_tracker_reap(struct esnap_tracker *t);

/* The limit of the cache that is in force, in bytes. */
u64 esnap_tracker_cache(const struct esnap_tracker *t);

/* What INFO and /proc tell; every byte is set.  Under the inner lock. */
void esnap_tracker_info(const struct esnap_tracker *t, struct elastio_snap_info *info);

#endif /* ESNAP_TRACKER_H */
