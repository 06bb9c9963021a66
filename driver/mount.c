// SPDX-License-Identifier: GPL-2.0-only
/* What the end and the beginning of a filesystem mean for its trackers. */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/slab.h>

#include "activate.h"
#include "image.h"
#include "mount.h"
#include "registry.h"
#include "seal.h"
#include "tracker.h"

/* --- the end --------------------------------------------------------------- */

static bool is_on(const struct esnap_tracker *t, const struct super_block *sb)
{
	return t->phase == ESNAP_ACTIVE && t->sb == sb;
}

/* A directory above the COW file may have been renamed: it is looked for at the mount. */
static void renew_path(struct esnap_epoch *ep)
{
	char *path = esnap_cowfile_path(&ep->cowfile);

	if (IS_ERR_OR_NULL(path))
		return;
	mutex_lock(&esnap_inner_lock);
	swap(ep->cow_path, path);
	mutex_unlock(&esnap_inner_lock);
	kfree(path);
}

/*
 * The pins must be gone before the filesystem looks for busy inodes.  Nobody can
 * reach the file any more, and the device is the filesystem's until the end of
 * its shutdown: what it still writes is saved to the store as ever.
 */
void esnap_mount_before_shutdown(struct super_block *sb)
{
	struct esnap_tracker *t;

	while ((t = esnap_tracker_take(is_on, sb, 0))) {
		renew_path(t->current_epoch);
		esnap_cowfile_unpin(&t->current_epoch->cowfile);
	}
}

/* Nothing of ours is on its way to or from the origin when this returns. */
static void leave_origin(struct esnap_tracker *t)
{
	struct esnap_epoch *ep = t->current_epoch;

	WRITE_ONCE(ep->parked, true);
	if (t->image)
		esnap_image_quiesce(t->image);
	esnap_copy_sync(t);
	/* What failed drops what it has saved, and reads nothing more. */
	if (READ_ONCE(ep->error))
		esnap_copy_drain(ep);
	WRITE_ONCE(t->bdev, NULL);
}

static void close_out(struct esnap_tracker *t)
{
	struct esnap_epoch *ep = t->current_epoch;
	int err = esnap_seal(ep);

	leave_origin(t);
	esnap_seal_done(ep, err ? ESNAP_OPEN : ESNAP_CLEAN);

	mutex_lock(&esnap_inner_lock);
	t->sb = NULL;
	if (!err)
		t->state &= ~(u64)ELASTIO_SNAP_STATE_ACTIVE;
	mutex_unlock(&esnap_inner_lock);
	if (!err)
		pr_info("snapshot %u of %s is dormant: its filesystem was unmounted\n", t->minor,
			t->bdev_path);
	else
		pr_warn("COW file %s is not deleted: its filesystem has ended\n", ep->cow_path);
	esnap_tracker_give(t, err ? ESNAP_STOPPED : ESNAP_DORMANT);
}

/* A tracker that esnap_mount_before_shutdown() took from this filesystem. */
static struct esnap_tracker *next_taken(const struct super_block *sb)
{
	struct esnap_tracker *found = NULL;
	unsigned int i;

	mutex_lock(&esnap_inner_lock);
	for (i = 0; i < esnap_max_devices && !found; i++) {
		struct esnap_tracker *t = esnap_registry_get(i);

		if (t && t->phase == ESNAP_MOVING && t->sb == sb)
			found = t;
	}
	mutex_unlock(&esnap_inner_lock);
	return found;
}

void esnap_mount_after_shutdown(struct super_block *sb)
{
	struct esnap_tracker *t;

	while ((t = next_taken(sb)))
		close_out(t);
}

/* --- the beginning --------------------------------------------------------- */

/* Its device by name; whether it is the same disk is for the activation to say. */
static bool expects(const struct esnap_tracker *t, const struct super_block *sb)
{
	if (t->dev != sb->s_bdev->bd_dev)
		return false;
	/* One that has failed, too, may have a write to its COW file under way still. */
	if (t->phase == ESNAP_MOVING)
		return t->sb != sb;
	return !READ_ONCE(t->current_epoch->error) &&
	       (t->phase == ESNAP_DORMANT || t->phase == ESNAP_UNVERIFIED);
}

void esnap_mount_begun(struct super_block *sb)
{
	struct esnap_tracker *t;
	unsigned int from = 0;

	while ((t = esnap_tracker_take(expects, sb, from))) {
		from = t->minor + 1;
		esnap_activate(t, sb);
	}
}
