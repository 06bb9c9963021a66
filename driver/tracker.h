/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_TRACKER_H
#define ESNAP_TRACKER_H

#include <linux/blkdev.h>
#include <linux/mutex.h>
#include <linux/rculist.h>

#include "copy.h"
#include "epoch.h"

struct esnap_image;

struct esnap_tracker {
	unsigned int minor;
	bool ignore_errors;
	/* The snapshot bit of the state. */
	bool snapshot;
	/* As it was asked for; 0: the default. */
	u64 cache_size;

	struct esnap_bdev origin;
	char *bdev_path;
	struct gendisk *disk;
	u64 diskseq;
	/* The origin on its disk, in sectors. */
	u64 start;
	u64 nr_sectors;

	/* In the registry, under RCU. */
	struct hlist_node node;
	/* What the hook sees.  A slot never changes from one epoch to another. */
	struct esnap_epoch __rcu *slots[2];
	/* The epoch that users see; changes under the inner lock. */
	struct esnap_epoch *current_epoch;

	struct esnap_image *image;
	struct esnap_copy copy;
	/* Nothing of the origin is held any more: it failed, or is going. */
	bool stopped;
	bool hooked;
};

/*
 * Locks, outermost first:
 *
 * outer: the ioctls, one at a time.  No hook and no worker of the I/O path
 *        takes it.
 * inner: the table of trackers, what INFO and /proc read, and the pins of COW
 *        files.  The superblock hook takes it; it is not held across a freeze,
 *        a write through the VFS, or opening and closing devices.
 *
 * An ioctl that works on the COW file holds an active reference on the
 * superblock, taken before the inner lock's section ends and given back last.
 */
extern struct mutex esnap_outer_lock;
extern struct mutex esnap_inner_lock;

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

/* Ends every tracker, as the module goes.  Sleeps. */
void esnap_destroy_all(void);

/* When it has failed: give back what it holds of the origin.  Outer lock; sleeps. */
void esnap_tracker_reap(struct esnap_tracker *t);

/* The limit of the cache that is in force, in bytes. */
u64 esnap_tracker_cache(const struct esnap_tracker *t);

/* What INFO and /proc tell; every byte is set.  Under the inner lock. */
void esnap_tracker_info(const struct esnap_tracker *t, struct elastio_snap_info *info);

#endif /* ESNAP_TRACKER_H */
