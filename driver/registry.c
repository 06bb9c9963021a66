// SPDX-License-Identifier: GPL-2.0-only
/* Minors, and the table by disk that the hook looks in. */
#include <linux/blkdev.h>
#include <linux/hashtable.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "registry.h"
#include "tracker.h"

static struct esnap_tracker **minors;
static DEFINE_HASHTABLE(by_disk, 6);

static void reap(struct work_struct *work)
{
	unsigned int i;

	mutex_lock(&esnap_outer_lock);
	for (i = 0; i < esnap_max_devices; i++)
		if (minors[i])
			esnap_tracker_reap(minors[i]);
	mutex_unlock(&esnap_outer_lock);
}

static DECLARE_WORK(reap_work, reap);

int esnap_registry_init(void)
{
	minors = kcalloc(esnap_max_devices, sizeof(struct esnap_tracker *), GFP_KERNEL);
	return minors ? 0 : -ENOMEM;
}

void esnap_registry_exit(void)
{
	cancel_work_sync(&reap_work);
	kfree(minors);
}

void esnap_registry_reap(void)
{
	schedule_work(&reap_work);
}

static void assert_locked(void)
{
	lockdep_assert(lockdep_is_held(&esnap_outer_lock) ||
		       lockdep_is_held(&esnap_inner_lock));
}

struct esnap_tracker *esnap_registry_get(unsigned int minor)
{
	assert_locked();
	return minors[minor];
}

void esnap_registry_set(unsigned int minor, struct esnap_tracker *t)
{
	lockdep_assert_held(&esnap_outer_lock);
	lockdep_assert_held(&esnap_inner_lock);
	minors[minor] = t;
}

struct esnap_tracker *esnap_registry_find(struct block_device *bdev)
{
	unsigned int i;

	assert_locked();
	for (i = 0; i < esnap_max_devices; i++)
		if (minors[i] && !minors[i]->stopped &&
		    !(minors[i]->state & ELASTIO_SNAP_STATE_UNVERIFIED) &&
		    minors[i]->dev == bdev->bd_dev)
			return minors[i];
	return NULL;
}

void esnap_registry_publish(struct esnap_tracker *t)
{
	lockdep_assert_held(&esnap_outer_lock);
	hash_add_rcu(by_disk, &t->node, (unsigned long)t->disk);
}

void esnap_registry_unpublish(struct esnap_tracker *t)
{
	lockdep_assert_held(&esnap_outer_lock);
	hash_del_rcu(&t->node);
	synchronize_rcu();
}

/* Has the origin grown behind our back?  Such a write cannot be tracked. */
static bool beyond_origin(struct esnap_tracker *t, struct bio *bio, u64 to)
{
	return to > t->start + t->nr_sectors &&
	       esnap_bio_sectors_of(bio, t->dev) > t->nr_sectors;
}

static void fail_all(struct esnap_tracker *t, int error, const char *why)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = rcu_dereference(t->slots[i]);

		if (ep)
			esnap_fail(ep, error, why);
	}
}

/* The part of the bio that lies on the origin; true: an epoch wants it held. */
static bool must_hold(struct esnap_tracker *t, struct bio *bio, u64 from, u64 to)
{
	int i;

	from = max(from, t->start);
	to = min(to, t->start + t->nr_sectors);
	if (from >= to)
		return false;
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = rcu_dereference(t->slots[i]);

		if (ep && !esnap_epoch_admits(ep, bio, from - t->start, to - from))
			return true;
	}
	return false;
}

bool esnap_registry_filter(struct bio *bio)
{
	struct gendisk *disk = esnap_bio_disk(bio);
	u64 from, to;
	struct esnap_tracker *t;
	bool held = false;

	/* Ours go to the store, and to nowhere else. */
	if (bio->bi_end_io == esnap_store_end_io)
		return false;
	rcu_read_lock();
	hash_for_each_possible_rcu(by_disk, t, node, (unsigned long)disk) {
		if (t->disk != disk)
			continue;
		/* A new number is a new medium, or an old one that says so. */
		if (unlikely(t->diskseq != esnap_diskseq(disk))) {
			fail_all(t, -ENODEV, "its disk reports another medium");
			continue;
		}
		from = esnap_bio_disk_sector(bio);
		to = from + bio_sectors(bio);
		if (unlikely(beyond_origin(t, bio, to)))
			fail_all(t, -EFBIG, "the origin has grown");
		if (must_hold(t, bio, from, to)) {
			/* The next tracker of the disk sees it when it comes again. */
			esnap_copy_hold(t, bio);
			held = true;
			break;
		}
	}
	rcu_read_unlock();
	return held;
}
