// SPDX-License-Identifier: GPL-2.0-only
/* The life of a tracker: set-up, transitions, destruction. */
#include <linux/blkdev.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/uuid.h>

#include "hook.h"
#include "image.h"
#include "registry.h"
#include "seal.h"
#include "tracker.h"

u64 esnap_tracker_cache(const struct esnap_tracker *t)
{
	return t->cache_size ?: esnap_cache_default;
}

void esnap_tracker_info(const struct esnap_tracker *t, struct elastio_snap_info *info)
{
	const struct esnap_epoch *ep = t->current_epoch;

	lockdep_assert_held(&esnap_inner_lock);
	memset(info, 0, sizeof(*info));
	info->minor = t->minor;
	info->flags = ELASTIO_SNAP_COW_ON_BDEV;
	info->state = t->state;
	info->error = READ_ONCE(ep->error);
	info->cache_size = esnap_tracker_cache(t);
	strscpy(info->cow, ep->cow_path, sizeof(info->cow));
	strscpy(info->bdev, t->bdev_path, sizeof(info->bdev));
	info->ignore_errors = t->ignore_errors;
	if (esnap_tracker_is_unverified(t))
		return;
	info->cow_size = ep->cowfile.size;
	info->seqid = ep->seqid;
	memcpy(info->uuid, ep->uuid, sizeof(info->uuid));
	info->version = ELASTIO_SNAP_COW_VERSION;
	info->nr_changed_blocks = atomic64_read(&ep->index.nr_changed);
}

/* --- the end --------------------------------------------------------------- */

/* The filesystem is there; on another medium nothing is to be written because of us. */
static void give_up_file(struct esnap_tracker *t)
{
	struct esnap_epoch *ep = t->current_epoch;

	if (!esnap_origin_is_exchanged(t)) {
		esnap_cowfile_remove(&ep->cowfile);
		return;
	}
	pr_warn("COW file %s is not deleted: the disk reports another medium\n", ep->cow_path);
	esnap_cowfile_unpin(&ep->cowfile);
}

/*
 * Gives back all that is the origin's and its filesystem's.  The tracker stays
 * as something to ask, and so does the image device, whose reads fail.  It is
 * held, and @sb is its filesystem.
 */
static void stop(struct esnap_tracker *t, struct super_block *sb)
{
	struct esnap_epoch *ep = t->current_epoch;

	if (t->stopped)
		return;
	mutex_lock(&esnap_inner_lock);
	t->stopped = true;
	mutex_unlock(&esnap_inner_lock);
	/* Or else the file could come back with a power failure, and be believed. */
	if (sb && esnap_seal_break(ep, esnap_target(t->bdev), 0))
		pr_warn("COW file %s says still that it is complete\n", ep->cow_path);
	xchg(&ep->mode, ESNAP_PASS);
	esnap_registry_unpublish(t);
	if (t->image)
		esnap_image_quiesce(t->image);
	esnap_copy_wait_held(t);
	esnap_epoch_unpublish(ep);
	esnap_store_close(&ep->store);
	esnap_copy_sync(t);
	if (sb)
		give_up_file(t);
	mutex_lock(&esnap_inner_lock);
	t->phase = ESNAP_STOPPED;
	t->sb = NULL;
	t->bdev = NULL;
	mutex_unlock(&esnap_inner_lock);
	esnap_hook_put();
}

void esnap_tracker_reap(struct esnap_tracker *t)
{
	struct super_block *sb;

	lockdep_assert_held(&esnap_outer_lock);
	if (!READ_ONCE(t->current_epoch->error) || t->stopped)
		return;
	sb = esnap_tracker_hold(t);
	stop(t, sb);
	esnap_tracker_unhold(t, sb);
}

/* It is held; the hold goes with it. */
static void destroy(struct esnap_tracker *t, struct super_block *sb)
{
	if (t->image)
		esnap_image_remove(t->image);
	t->image = NULL;
	stop(t, sb);
	mutex_lock(&esnap_inner_lock);
	esnap_registry_set(t->minor, NULL);
	mutex_unlock(&esnap_inner_lock);
	esnap_tracker_announce_handover();
	esnap_reload_forget(t);
	esnap_epoch_free(t->current_epoch);
	esnap_copy_exit(t);
	esnap_tracker_free(t);
	if (sb)
		deactivate_super(sb);
}

/* --- the ioctls ------------------------------------------------------------ */

static int setup(const struct esnap_setup *s)
{
	struct esnap_bdev origin;
	struct esnap_tracker *t;
	struct super_block *sb;
	struct esnap_epoch *ep;
	uuid_t uuid;
	int err;

	t = esnap_tracker_create(s->minor, s->bdev, &origin);
	if (IS_ERR(t))
		return PTR_ERR(t);
	t->ignore_errors = s->ignore_errors;
	t->cache_size = s->cache_size;
	t->state = ELASTIO_SNAP_STATE_ACTIVE | ELASTIO_SNAP_STATE_SNAPSHOT;
	t->phase = ESNAP_ACTIVE;

	err = esnap_registry_claim(t);
	if (err)
		goto err_tracker;
	sb = esnap_origin_super(t, origin.bdev, s->cow);
	if (IS_ERR(sb)) {
		err = PTR_ERR(sb);
		goto err_tracker;
	}
	t->sb = sb;
	t->bdev = sb->s_bdev;
	err = esnap_copy_init(t);
	if (err)
		goto err_super;
	uuid_gen(&uuid);
	ep = esnap_epoch_create(t, sb, s->cow, s->cow_size_mib, 1, uuid.b);
	if (IS_ERR(ep)) {
		err = PTR_ERR(ep);
		goto err_copy;
	}
	t->current_epoch = ep;
	t->image = esnap_image_create(ep);
	if (IS_ERR(t->image)) {
		err = PTR_ERR(t->image);
		goto err_epoch;
	}
	err = esnap_hook_get();
	if (err)
		goto err_image;
	esnap_registry_supersede(t);
	esnap_registry_publish(t);
	err = esnap_epoch_publish(ep, 0, sb);
	if (err)
		goto err_registry;
	err = esnap_image_announce(t->image);
	if (err)
		goto err_published;
	mutex_lock(&esnap_inner_lock);
	esnap_registry_set(t->minor, t);
	mutex_unlock(&esnap_inner_lock);
	esnap_reload_renew(t);
	/* From here on it is the filesystem that keeps the origin open. */
	esnap_bdev_close(&origin);
	deactivate_super(sb);
	esnap_image_wait_closed(t->image);
	pr_info("snapshot %u of %s set up\n", t->minor, t->bdev_path);
	return 0;

err_published:
	esnap_epoch_unpublish(ep);
err_registry:
	esnap_registry_unpublish(t);
	esnap_copy_wait_held(t);
	esnap_copy_sync(t);
	esnap_hook_put();
err_image:
	esnap_image_remove(t->image);
err_epoch:
	esnap_store_close(&ep->store);
	esnap_cowfile_abandon(&ep->cowfile);
	esnap_epoch_free(ep);
err_copy:
	esnap_copy_exit(t);
err_super:
	deactivate_super(sb);
err_tracker:
	esnap_bdev_close(&origin);
	esnap_tracker_free(t);
	return err;
}

static int transition_inc(struct esnap_tracker *t, struct super_block *sb)
{
	struct esnap_epoch *ep = t->current_epoch;
	int err;

	if (READ_ONCE(ep->error) || !esnap_tracker_is_snapshot(t) || !sb)
		return -EINVAL;
	/* Here, since a change that comes while the store is closed could not do that. */
	err = esnap_seal_open(ep);
	if (!err)
		err = esnap_image_claim(t->image);
	if (err)
		return err;
	esnap_image_remove(t->image);
	t->image = NULL;
	mutex_lock(&esnap_inner_lock);
	t->state = ELASTIO_SNAP_STATE_ACTIVE;
	mutex_unlock(&esnap_inner_lock);
	/* What backups need was read from the image, or never will be. */
	esnap_changes_free(&t->before);

	/*
	 * The instant stays the same, so that nothing must be frozen: from here
	 * on a write is marked where it would have been held, and what is held
	 * is marked and let go.  Fails only against a failure, which stays.
	 */
	cmpxchg(&ep->mode, ESNAP_SNAPSHOT, ESNAP_INCREMENTAL);
	synchronize_rcu();
	esnap_copy_drain(ep);
	esnap_copy_sync(t);
	if (esnap_index_merge_window(&ep->index))
		esnap_fail(ep, -ENOMEM, "no memory for the change bitmap");
	esnap_store_close(&ep->store);
	esnap_index_drop_mapping(&ep->index);
	err = READ_ONCE(ep->error);
	if (err)
		return err;
	esnap_epoch_shrink(ep);
	esnap_store_reopen(&ep->store);
	return READ_ONCE(ep->error);
}

static int transition_snap(struct esnap_tracker *t, struct super_block *sb, const char *cow,
			   u64 cow_size_mib)
{
	struct esnap_epoch *old = t->current_epoch, *new;
	struct esnap_image *image;
	unsigned int slot;
	int err;

	if (READ_ONCE(old->error) || esnap_tracker_is_snapshot(t) || !sb)
		return -EINVAL;
	/* To open it later would be a write that the new one does not see. */
	err = esnap_seal_open(old);
	if (err)
		return err;
	new = esnap_epoch_create(t, sb, cow, cow_size_mib, old->seqid + 1, old->uuid);
	if (IS_ERR(new))
		return PTR_ERR(new);
	image = esnap_image_create(new);
	if (IS_ERR(image)) {
		err = PTR_ERR(image);
		goto err_epoch;
	}
	slot = rcu_access_pointer(t->slots[0]) == old ? 1 : 0;
	err = esnap_epoch_publish(new, slot, sb);
	if (err)
		goto err_stored;
	/* Until here the old one has marked everything, too. */
	err = READ_ONCE(old->error);
	if (!err)
		err = esnap_image_announce(image);
	if (err)
		goto err_published;

	mutex_lock(&esnap_inner_lock);
	t->current_epoch = new;
	t->image = image;
	t->state = ELASTIO_SNAP_STATE_ACTIVE | ELASTIO_SNAP_STATE_SNAPSHOT;
	mutex_unlock(&esnap_inner_lock);

	esnap_epoch_unpublish(old);
	esnap_store_close(&old->store);
	err = esnap_epoch_write_out(old, cow);
	if (err)
		esnap_fail(new, err, "the changes since the last snapshot cannot be written out");
	esnap_changes_move(&t->before, &old->index.changes);
	esnap_epoch_free(old);
	/* A failure of the new one before it was the current one was not reaped. */
	if (READ_ONCE(new->error))
		esnap_registry_reap();
	esnap_image_wait_closed(image);
	return err;

err_published:
	esnap_epoch_unpublish(new);
err_stored:
	/* What was stored there the old one has let pass. */
	esnap_epoch_mark_store_of(old, new);
	esnap_image_remove(image);
err_epoch:
	esnap_store_close(&new->store);
	esnap_cowfile_abandon(&new->cowfile);
	esnap_epoch_free(new);
	return err;
}

static int reconfigure(struct esnap_tracker *t, u64 cache_size)
{
	if (READ_ONCE(t->current_epoch->error))
		return -EINVAL;
	mutex_lock(&esnap_inner_lock);
	t->cache_size = cache_size;
	mutex_unlock(&esnap_inner_lock);
	esnap_index_set_cache(&t->current_epoch->index, esnap_tracker_cache(t));
	return 0;
}

/* Whose changes since @seqid are asked for, or NULL. */
static const struct esnap_changes *changes_since(const struct esnap_tracker *t, u64 seqid)
{
	const struct esnap_epoch *ep = t->current_epoch;

	if (seqid == ep->seqid)
		return &ep->index.changes;
	if (seqid == ep->seqid - 1 && t->before.nr_blocks)
		return &t->before;
	return NULL;
}

static int changes(struct esnap_tracker *t, struct elastio_snap_changes_params *p,
		   struct elastio_snap_changed *extents)
{
	const struct esnap_changes *c;

	if (READ_ONCE(t->current_epoch->error))
		return -EIO;
	/* An activation in progress sets what is compared here. */
	mutex_lock(&esnap_inner_lock);
	c = changes_since(t, p->seqid);
	if (esnap_tracker_is_unverified(t) ||
	    memcmp(t->current_epoch->uuid, p->uuid, sizeof(p->uuid)))
		c = NULL;
	mutex_unlock(&esnap_inner_lock);
	if (!c)
		return -ESTALE;
	if (p->block > c->nr_blocks)
		return -EINVAL;
	p->nr_extents = esnap_changes_extents(c, &p->block, extents, p->max_extents);
	p->complete = p->nr_extents < p->max_extents;
	/* What could not be recorded meanwhile must not be missed. */
	return READ_ONCE(t->current_epoch->error) ? -EIO : 0;
}

static int get_tracker(unsigned int minor, struct esnap_tracker **t)
{
	if (minor >= esnap_max_devices)
		return -EINVAL;
	*t = esnap_registry_get(minor);
	return *t ? 0 : -ENOENT;
}

/* As the former, and its image is not open: a probe of udev's may end first. */
static int get_tracker_at_rest(unsigned int minor, struct esnap_tracker **t)
{
	int err = get_tracker(minor, t);
	struct esnap_image *image;

	if (err)
		return err;
	/* Pairs with the activation, which an ioctl does not keep away here. */
	image = smp_load_acquire(&(*t)->image);
	return !image || esnap_image_wait_closed(image) ? 0 : -EBUSY;
}

int esnap_setup(const struct esnap_setup *s)
{
	int err;

	mutex_lock(&esnap_outer_lock);
	err = setup(s);
	mutex_unlock(&esnap_outer_lock);
	return err;
}

int esnap_transition_inc(unsigned int minor)
{
	struct esnap_tracker *t;
	struct super_block *sb;
	int err;

	mutex_lock(&esnap_outer_lock);
	err = get_tracker_at_rest(minor, &t);
	if (!err) {
		sb = esnap_tracker_hold(t);
		err = transition_inc(t, sb);
		esnap_tracker_unhold(t, sb);
	}
	mutex_unlock(&esnap_outer_lock);
	return err;
}

int esnap_transition_snap(unsigned int minor, const char *cow, u64 cow_size_mib)
{
	struct esnap_tracker *t;
	struct super_block *sb;
	int err;

	mutex_lock(&esnap_outer_lock);
	err = get_tracker_at_rest(minor, &t);
	if (!err) {
		sb = esnap_tracker_hold(t);
		err = transition_snap(t, sb, cow, cow_size_mib);
		esnap_tracker_unhold(t, sb);
	}
	mutex_unlock(&esnap_outer_lock);
	return err;
}

int esnap_reconfigure(unsigned int minor, u64 cache_size)
{
	struct esnap_tracker *t;
	int err;

	mutex_lock(&esnap_outer_lock);
	err = get_tracker_at_rest(minor, &t);
	if (!err)
		err = reconfigure(t, cache_size);
	mutex_unlock(&esnap_outer_lock);
	return err;
}

int esnap_tracker_changes(struct elastio_snap_changes_params *p,
			  struct elastio_snap_changed *extents)
{
	struct esnap_tracker *t;
	int err;

	mutex_lock(&esnap_outer_lock);
	err = get_tracker(p->minor, &t);
	if (!err)
		err = changes(t, p, extents);
	mutex_unlock(&esnap_outer_lock);
	return err;
}

int esnap_destroy(unsigned int minor)
{
	struct esnap_tracker *t;
	struct super_block *sb;
	int err;

	mutex_lock(&esnap_outer_lock);
	/* The wait for the image comes before the hold: umount(8) would return too early. */
	err = get_tracker_at_rest(minor, &t);
	if (!err) {
		sb = esnap_tracker_hold(t);
		err = t->image ? esnap_image_claim(t->image) : 0;
		if (err)
			esnap_tracker_unhold(t, sb);
		else
			destroy(t, sb);
	}
	mutex_unlock(&esnap_outer_lock);
	return err;
}

void esnap_destroy_all(void)
{
	unsigned int i;

	mutex_lock(&esnap_outer_lock);
	for (i = 0; i < esnap_max_devices; i++) {
		struct esnap_tracker *t = esnap_registry_get(i);

		if (t)
			destroy(t, esnap_tracker_hold(t));
	}
	mutex_unlock(&esnap_outer_lock);
}
