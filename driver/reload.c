// SPDX-License-Identifier: GPL-2.0-only
/* Announcing a device whose tracker will be taken up again when it is mounted. */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "activate.h"
#include "drain.h"
#include "fingerprint.h"
#include "hook.h"
#include "registry.h"
#include "tracker.h"

/*
 * An origin whose changes were recorded in vain.  By the number of its device, for
 * a disk that has reported another medium since can have the old one; and by what
 * its filesystem was, for it can come back under another number.
 */
struct lost {
	struct list_head list;
	/* 0: another origin has the number now. */
	dev_t dev;
	/* 0: not known. */
	u64 fingerprint;
};

/* Outer lock. */
static LIST_HEAD(all_lost);

/* Are they of one origin, as far as that can be known? */
static bool is_same_origin(const struct esnap_tracker *t, dev_t dev, u64 fingerprint)
{
	return t->dev == dev || (t->fingerprint && t->fingerprint == fingerprint);
}

/* Has it recorded what a COW file on disk does not know of, or failed to? */
static bool recorded_in_vain(const struct esnap_tracker *t)
{
	const struct esnap_epoch *ep = t->current_epoch;

	/* The COW file of an active tracker goes; that of a dormant one is unclean. */
	return READ_ONCE(ep->error) || t->stale ||
	       (esnap_tracker_is_unverified(t) && atomic64_read(&ep->index.nr_changed));
}

/* Did changes of its origin come before it that its COW file does not know of? */
static bool has_lost(const struct esnap_tracker *t)
{
	const struct esnap_tracker *other;
	struct lost *lost;
	unsigned int i;

	lockdep_assert_held(&esnap_outer_lock);
	list_for_each_entry(lost, &all_lost, list)
		if (is_same_origin(t, lost->dev, lost->fingerprint))
			return true;
	for (i = 0; i < esnap_max_devices; i++) {
		other = esnap_registry_get(i);
		if (other && is_same_origin(t, other->dev, other->fingerprint) &&
		    recorded_in_vain(other))
			return true;
	}
	return false;
}

/* What it was before is not it any more; another disk may have had its number. */
void esnap_reload_renew(const struct esnap_tracker *t)
{
	struct lost *lost, *next;

	lockdep_assert_held(&esnap_outer_lock);
	list_for_each_entry_safe(lost, next, &all_lost, list) {
		if (lost->dev != t->dev)
			continue;
		lost->dev = 0;
		if (lost->fingerprint)
			continue;
		list_del(&lost->list);
		kfree(lost);
	}
}

void esnap_reload_forget(const struct esnap_tracker *t)
{
	struct lost *lost;

	lockdep_assert_held(&esnap_outer_lock);
	if (!recorded_in_vain(t))
		return;
	list_for_each_entry(lost, &all_lost, list)
		if (lost->dev == t->dev && lost->fingerprint == t->fingerprint)
			return;
	lost = kmalloc(sizeof(*lost), GFP_KERNEL | __GFP_NOFAIL);
	lost->dev = t->dev;
	lost->fingerprint = t->fingerprint;
	list_add(&lost->list, &all_lost);
	pr_warn("%s: what has changed is not known any more: it needs a new snapshot\n",
		t->bdev_path);
}

void esnap_reload_exit(void)
{
	struct lost *lost, *next;

	list_for_each_entry_safe(lost, next, &all_lost, list)
		kfree(lost);
}

struct super_search {
	dev_t dev;
	struct super_block *found;
};

static void compare_super(struct super_block *sb, void *arg)
{
	struct super_search *search = arg;

	if (!search->found && sb->s_bdev && sb->s_bdev->bd_dev == search->dev &&
	    atomic_inc_not_zero(&sb->s_active))
		search->found = sb;
}

/* The filesystem that is mounted from a device, active, or NULL. */
static struct super_block *mounted_super(struct block_device *bdev)
{
	struct super_search search = { .dev = bdev->bd_dev };
	struct file_system_type *type;
	unsigned int i;

	/* A mounted filesystem claims its device. */
	if (!READ_ONCE(bdev->bd_holder))
		return NULL;
	for (i = 0; !search.found && (type = esnap_cowfile_fs_type(i)); i++) {
		iterate_supers_type(type, compare_super, &search);
		module_put(type->owner);
	}
	return search.found;
}

/* In use by what, if by anything, that cannot be waited for? */
static int check_use(struct esnap_tracker *t, struct block_device *bdev, struct super_block *sb)
{
	if (sb && !sb_rdonly(sb)) {
		pr_err("%s is mounted for writing: reload before it is mounted\n", t->bdev_path);
		return -EINVAL;
	}
	if (!sb && READ_ONCE(bdev->bd_holder)) {
		pr_err("%s is in use, and not by a filesystem that is supported\n", t->bdev_path);
		return -EINVAL;
	}
	return 0;
}

/* Recording first, then the fingerprint: nothing falls between the two. */
static int begin(struct esnap_tracker *t, struct esnap_epoch *ep, struct block_device *bdev,
		 struct super_block *sb)
{
	int err;

	err = esnap_hook_get();
	if (err)
		return err;
	esnap_registry_publish(t);
	esnap_epoch_publish_expected(ep);
	/* A mount that began before that may have written what nobody has recorded. */
	err = -EINVAL;
	if (sb ? !sb_rdonly(sb) : !!READ_ONCE(bdev->bd_holder)) {
		pr_err("%s is being mounted: reload before that\n", t->bdev_path);
		goto err_published;
	}
	err = esnap_drain(bdev);
	if (!err)
		err = sync_blockdev(bdev);
	if (!err)
		err = esnap_fingerprint(bdev, &ep->store.bios, ep->found, &t->fingerprint);
	if (!err)
		return 0;
err_published:
	esnap_registry_unpublish(t);
	esnap_copy_wait_held(t);
	esnap_epoch_unpublish(ep);
	esnap_copy_sync(t);
	esnap_hook_put();
	return err;
}

static bool is_expected(const struct esnap_tracker *t, const struct super_block *sb)
{
	return t->phase == ESNAP_UNVERIFIED && t->dev == sb->s_bdev->bd_dev &&
	       !READ_ONCE(t->current_epoch->error);
}

static int reload(const struct esnap_reload *r)
{
	struct esnap_bdev origin;
	struct super_block *sb;
	struct esnap_tracker *t;
	struct esnap_epoch *ep;
	int err;

	t = esnap_tracker_create(r->minor, r->bdev, &origin);
	if (IS_ERR(t))
		return PTR_ERR(t);
	t->ignore_errors = r->ignore_errors;
	t->cache_size = r->cache_size;
	t->phase = ESNAP_UNVERIFIED;
	t->state = ELASTIO_SNAP_STATE_UNVERIFIED |
		   (r->snapshot ? ELASTIO_SNAP_STATE_SNAPSHOT : 0);
	/* Both paths are told as they were given until they have been looked up. */
	t->resolved_path = t->bdev_path;
	t->bdev_path = kstrdup(r->bdev, GFP_KERNEL);
	err = -ENOMEM;
	if (!t->bdev_path)
		goto err_tracker;
	sb = mounted_super(origin.bdev);
	err = check_use(t, origin.bdev, sb);
	if (err)
		goto err_super;
	err = esnap_copy_init(t);
	if (err)
		goto err_super;
	ep = esnap_epoch_expect(t, r->cow);
	if (IS_ERR(ep)) {
		err = PTR_ERR(ep);
		goto err_copy;
	}
	t->current_epoch = ep;
	err = begin(t, ep, origin.bdev, sb);
	if (err)
		goto err_epoch;
	/* A mount finds it only when it is registered: nobody has asked yet. */
	t->stale = has_lost(t);
	mutex_lock(&esnap_inner_lock);
	esnap_registry_set(t->minor, t);
	mutex_unlock(&esnap_inner_lock);
	pr_info("snapshot %u of %s is expected\n", t->minor, t->bdev_path);
	/*
	 * Mounted read-only, as root is at first: there will be no other mount.
	 * Or mounted since it was looked for, when its hook did not know this yet.
	 */
	if (!sb)
		sb = mounted_super(origin.bdev);
	esnap_bdev_close(&origin);
	if (sb) {
		t = esnap_tracker_take(is_expected, sb, r->minor);
		if (t)
			esnap_activate(t, sb);
		deactivate_super(sb);
	}
	return 0;

err_epoch:
	esnap_store_close(&ep->store);
	esnap_epoch_free(ep);
err_copy:
	esnap_copy_exit(t);
err_super:
	if (sb)
		deactivate_super(sb);
err_tracker:
	esnap_bdev_close(&origin);
	esnap_tracker_free(t);
	return err;
}

int esnap_reload(const struct esnap_reload *r)
{
	int err;

	mutex_lock(&esnap_outer_lock);
	err = reload(r);
	mutex_unlock(&esnap_outer_lock);
	return err;
}
