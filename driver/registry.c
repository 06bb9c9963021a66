// SPDX-License-Identifier: GPL-2.0-only
/* Minors, and the table by disk that the hook looks in. */
#include <linux/blkdev.h>
#include <linux/hashtable.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "fault.h"
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
		    !esnap_tracker_is_unverified(minors[i]) &&
		    minors[i]->dev == bdev->bd_dev)
			return minors[i];
	return NULL;
}

/* A disk that is gone can have left its address, but not its number, to another. */
static bool overlap(const struct esnap_tracker *a, const struct esnap_tracker *b)
{
	return a->disk == b->disk && a->diskseq == b->diskseq &&
	       a->start < b->start + b->nr_sectors && b->start < a->start + a->nr_sectors;
}

int esnap_registry_claim(const struct esnap_tracker *t)
{
	struct esnap_tracker *other;
	unsigned int i;

	lockdep_assert_held(&esnap_outer_lock);
	for (i = 0; i < esnap_max_devices; i++) {
		other = minors[i];
		if (!other || esnap_tracker_is_unverified(other) ||
		    (t->dev != other->dev && !overlap(t, other)))
			continue;
		/* Whether reap() was here already is a matter of luck. */
		esnap_tracker_reap(other);
		if (other->stopped)
			continue;
		if (t->dev == other->dev)
			pr_err("%s is tracked already\n", t->bdev_path);
		else
			pr_err("%s shares sectors with %s, which is tracked\n", t->bdev_path,
			       other->bdev_path);
		return -EINVAL;
	}
	return 0;
}

void esnap_registry_supersede(const struct esnap_tracker *t)
{
	struct esnap_tracker *other;
	unsigned int i;

	lockdep_assert_held(&esnap_outer_lock);
	for (i = 0; i < esnap_max_devices; i++) {
		other = minors[i];
		if (other && !other->stopped && overlap(t, other))
			esnap_fail(other->current_epoch, -ESTALE,
				   "a new snapshot of its sectors is being set up");
	}
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

/*
 * The tracker's end; false: what its COW file says on disk must be changed
 * before that, for which the bio must be held.
 */
static bool end_tracker(struct esnap_tracker *t, int error, const char *why)
{
	bool ended = true;
	int i;

	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = rcu_dereference(t->slots[i]);

		if (!ep || READ_ONCE(ep->mode) == ESNAP_PASS)
			continue;
		if (READ_ONCE(ep->seal) == ESNAP_OPEN)
			esnap_fail(ep, error, why);
		else
			ended = false;
	}
	return ended;
}

/* True: an epoch wants the bio held. */
static bool must_hold(struct esnap_tracker *t, struct bio *bio)
{
	u64 from = max_t(u64, esnap_bio_disk_sector(bio), t->start);
	u64 to = min(esnap_bio_disk_sector(bio) + bio_sectors(bio), t->start + t->nr_sectors);
	const char *why;
	int i, err;

	err = esnap_origin_misses(t, bio, &why);
	if (unlikely(err))
		return !end_tracker(t, err, why);
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
	struct esnap_tracker *t;
	bool held = false;

	rcu_read_lock();
	hash_for_each_possible_rcu(by_disk, t, node, (unsigned long)disk) {
		if (t->disk != disk)
			continue;
		/* Ours go to the store, and to nowhere else. */
		if (esnap_store_has_sent(bio))
			break;
		if (esnap_fault("miss_alias") && !esnap_bio_sectors_of(bio, t->dev))
			continue;
		if (must_hold(t, bio)) {
			/* The next tracker of the disk sees it when it comes again. */
			esnap_copy_hold(t, bio);
			held = true;
			break;
		}
	}
	rcu_read_unlock();
	return held;
}
