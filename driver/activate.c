// SPDX-License-Identifier: GPL-2.0-only
/* Taking a tracker up again when its filesystem is mounted. */
#include <linux/blkdev.h>
#include <linux/slab.h>

#include "activate.h"
#include "fault.h"
#include "image.h"
#include "registry.h"
#include "seal.h"
#include "tracker.h"

struct activation {
	struct esnap_tracker *t;
	struct esnap_epoch *ep;
	struct super_block *sb;
	/* Nothing is known of the COW file but what it says itself. */
	bool unverified;
	/* Of the COW file that was found. */
	struct esnap_map *map;
	char *cow_path;
	struct esnap_raw_header header;
	/* What stands against it, for the log. */
	const char *why;
};

static int refuse(struct activation *a, int err, const char *why)
{
	a->why = why;
	return err;
}

/* --- looking, which changes nothing ---------------------------------------- */

/* Is it the disk that was watched all the time, and nobody else's? */
static int check_disk(struct activation *a)
{
	const struct esnap_tracker *t = a->t;
	struct block_device *bdev = a->sb->s_bdev;
	bool tracked;

	if (bdev->bd_disk != t->disk || esnap_origin_is_exchanged(t))
		return refuse(a, -ENODEV, "its disk was gone for a time");
	if (esnap_disk_can_be_exchanged(t->disk))
		return refuse(a, -ENODEV, "its disk may have been exchanged meanwhile");
	if (get_start_sect(bdev) != t->start || esnap_bdev_sectors(bdev) != t->nr_sectors)
		return refuse(a, -EINVAL, "its size or place on the disk has changed");
	if (!a->unverified)
		return 0;
	mutex_lock(&esnap_inner_lock);
	tracked = esnap_registry_find(bdev);
	mutex_unlock(&esnap_inner_lock);
	return tracked ? refuse(a, -EINVAL, "it is tracked by another minor") : 0;
}

static int find_cow_file(struct activation *a)
{
	struct esnap_epoch *ep = a->ep;
	u64 size = ep->first_data_block * ELASTIO_SNAP_BLOCK_SIZE;
	int err;

	if (esnap_tracker_is_snapshot(a->t))
		size = a->unverified ? 0 : ep->cowfile.size;
	err = esnap_cowfile_adopt(&ep->cowfile, a->sb, ep->cow_path, size, a->t->nr_sectors,
				  &a->map, &a->cow_path);
	if (err == -ENOENT)
		return refuse(a, err, "its COW file is not there");
	if (err == -EINVAL)
		return refuse(a, err, "its COW file is too short, or no regular file");
	return err ? refuse(a, err, "its COW file cannot be used") : 0;
}

/* A dormant tracker knows what its COW file was when it was closed. */
static int check_known(struct activation *a)
{
	struct esnap_epoch *ep = a->ep;

	if (a->t->stale)
		return refuse(a, -ESTALE, "the machine has hibernated since it was unmounted");
	if (!esnap_map_equal(a->map, rcu_dereference_protected(ep->store.map, true)))
		return refuse(a, -EIO, "its COW file's blocks have moved");
	if (esnap_seal_check(ep))
		return refuse(a, -EINVAL, "its COW file's header is not what was written");
	return 0;
}

/* Did somebody write to the store's blocks before we knew them? */
static bool was_written(const struct esnap_epoch *ep, const struct esnap_map *map)
{
	u32 i;

	for (i = 0; i < map->nr; i++) {
		const struct esnap_extent *e = &map->by_disk[i];
		u64 first = DIV_ROUND_UP_ULL(e->disk_sector, ELASTIO_SNAP_BLOCK_SECTORS);
		u64 end = (e->disk_sector + e->nr_sectors) / ELASTIO_SNAP_BLOCK_SECTORS;

		if (first < end &&
		    esnap_bitmap_next_set(&ep->index.changes.changed, first, end - 1) < end)
			return true;
	}
	return false;
}

static int check_header(struct activation *a)
{
	const struct esnap_raw_header *h = &a->header;
	u32 mode = esnap_tracker_is_snapshot(a->t) ? 0 : ELASTIO_SNAP_COW_INDEX_ONLY;
	u64 size = esnap_map_sectors(a->map) << SECTOR_SHIFT;

	if (!(h->common.flags & ELASTIO_SNAP_COW_CLEAN))
		return refuse(a, -EINVAL, "its COW file was in use when the machine stopped");
	if ((h->common.flags & ELASTIO_SNAP_COW_INDEX_ONLY) != mode)
		return refuse(a, -EINVAL, "its COW file is of the other mode");
	if (h->origin_sectors != a->t->nr_sectors)
		return refuse(a, -EINVAL, "its COW file is of a device of another size");
	if (h->common.next_block < a->ep->first_data_block ||
	    h->common.next_block > h->common.size / ELASTIO_SNAP_BLOCK_SIZE ||
	    (esnap_tracker_is_snapshot(a->t) && h->common.size != size))
		return refuse(a, -EINVAL, "its COW file has not the size that it says");
	return 0;
}

/* An unverified one knows nothing: its COW file must prove that nothing is missing. */
static int check_proof(struct activation *a)
{
	const struct esnap_raw_header *h = &a->header;
	int err;

	if (a->t->stale)
		return refuse(a, -ESTALE, "what changed while it was not mounted is forgotten");
	err = esnap_seal_read(a->ep, &a->header);
	if (err)
		return refuse(a, err, "its COW file was not closed by this driver");
	err = check_header(a);
	if (err)
		return err;
	if (!h->fingerprint)
		return refuse(a, -EOPNOTSUPP, "its filesystem does not tell whether it changed");
	if (!esnap_fault("no_fingerprint") && h->fingerprint != a->t->fingerprint)
		return refuse(a, -ESTALE, "its filesystem was changed while nobody looked");
	if (h->nr_extents != a->map->nr ||
	    h->extents_digest != esnap_header_digest(a->map, h->common.uuid))
		return refuse(a, -EIO, "its COW file's blocks have moved");
	if (was_written(a->ep, a->map))
		return refuse(a, -EIO, "somebody wrote to its COW file's blocks");
	return 0;
}

static int look(struct activation *a)
{
	struct esnap_epoch *ep = a->ep;
	int err;

	err = check_disk(a);
	if (!err)
		err = find_cow_file(a);
	if (err)
		return err;
	mutex_lock(&ep->seal_lock);
	esnap_store_aim(&ep->store, esnap_target(a->sb->s_bdev), 0);
	if (a->unverified) {
		rcu_assign_pointer(ep->store.map, a->map);
		/* A write that the hook let in has its bit then; a later one sees the map. */
		synchronize_rcu();
		err = check_proof(a);
		a->map = NULL;
	} else {
		err = check_known(a);
	}
	mutex_unlock(&ep->seal_lock);
	return err;
}

/* --- taking over ----------------------------------------------------------- */

/*
 * What was saved meanwhile was not counted, and may not fit.  Of an unverified
 * tracker it may be of blocks that had been saved before: the index keeps the
 * older content of each, and nobody reads the image before that is settled.
 */
static int land_saved(struct esnap_epoch *ep)
{
	if (ep->next_cow_block + READ_ONCE(ep->nr_unstored) >
	    ep->cowfile.size / ELASTIO_SNAP_BLOCK_SIZE)
		return -EFBIG;
	WRITE_ONCE(ep->parked, false);
	esnap_copy_drain(ep);
	return READ_ONCE(ep->error);
}

/* What the COW file says becomes the epoch's own. */
static int load(struct activation *a)
{
	const struct esnap_header *h = &a->header.common;
	struct esnap_epoch *ep = a->ep;

	/* Once more: a write that a worker had let in without the map has its bit by now. */
	if (was_written(ep, rcu_dereference_protected(ep->store.map, true)))
		return -EIO;
	mutex_lock(&esnap_inner_lock);
	ep->cowfile.size = h->size;
	ep->seqid = h->seqid;
	memcpy(ep->uuid, h->uuid, sizeof(ep->uuid));
	mutex_unlock(&esnap_inner_lock);
	ep->next_cow_block = h->next_block;
	ep->nr_reserved += h->next_block - ep->first_data_block;
	return esnap_index_load(&ep->index, esnap_tracker_is_snapshot(a->t),
				esnap_header_groups(page_address(ep->header)),
				a->header.tail_entry, h->next_block);
}

/* No new change is let go meanwhile, so that old and new can be put together. */
static int catch_up(struct activation *a)
{
	struct esnap_epoch *ep = a->ep;
	int err;

	WRITE_ONCE(ep->seal, ESNAP_CLOSING);
	synchronize_rcu();
	esnap_copy_wait_reads(ep);
	err = a->unverified ? load(a) : 0;
	if (!err && esnap_tracker_is_snapshot(a->t))
		err = land_saved(ep);
	esnap_seal_done(ep, ESNAP_OPEN);
	return err;
}

static int take_over(struct activation *a)
{
	struct esnap_tracker *t = a->t;
	struct esnap_epoch *ep = a->ep;
	struct esnap_image *image = NULL;
	int err;

	WRITE_ONCE(t->bdev, a->sb->s_bdev);
	if (esnap_tracker_is_snapshot(t) && !t->image) {
		image = esnap_image_create(ep);
		if (IS_ERR(image))
			return refuse(a, PTR_ERR(image), "its image cannot be made");
	}
	/* What the filesystem wrote to these blocks must not land after what we write. */
	err = sync_blockdev(t->bdev);
	if (!err)
		err = esnap_seal_open(ep);
	if (!err)
		err = catch_up(a);
	if (!err && image)
		err = esnap_image_announce(image);
	if (err && image)
		esnap_image_remove(image);
	if (err)
		return refuse(a, err, err == -EFBIG ? "the COW file is full" :
						      "its COW file cannot be taken up again");
	if (image)
		smp_store_release(&t->image, image); /* pairs with get_tracker_at_rest() */
	WRITE_ONCE(ep->parked, false);
	esnap_copy_kick(t);
	return 0;
}

/* --- the outcome ----------------------------------------------------------- */

static void succeed(struct activation *a)
{
	struct esnap_tracker *t = a->t;

	mutex_lock(&esnap_inner_lock);
	t->sb = a->sb;
	t->state = ELASTIO_SNAP_STATE_ACTIVE | (t->state & ELASTIO_SNAP_STATE_SNAPSHOT);
	swap(a->ep->cow_path, a->cow_path);
	if (a->unverified)
		swap(t->bdev_path, t->resolved_path);
	mutex_unlock(&esnap_inner_lock);
	pr_info("snapshot %u of %s is active again\n", t->minor, t->bdev_path);
	esnap_tracker_give(t, ESNAP_ACTIVE);
}

/*
 * Nobody records what is written after a failure, so a file that was closed must
 * not go on saying that it is complete.  Where it is its filesystem has to tell:
 * the blocks of one that is gone may be somebody's.
 */
static void unseal(struct activation *a)
{
	struct esnap_epoch *ep = a->ep;
	const char *why = a->why;

	if (a->unverified)
		return;
	if ((a->map || !find_cow_file(a)) &&
	    esnap_map_equal(a->map, rcu_dereference_protected(ep->store.map, true)))
		esnap_seal_break(ep, esnap_target(a->sb->s_bdev), 0);
	a->why = why;
}

/* Pins go last: nothing is on its way to or from the file. */
static void fail(struct activation *a, int err)
{
	struct esnap_epoch *ep = a->ep;

	unseal(a);
	esnap_fail(ep, err, a->why);
	/* Reads of the image that were let in use the origin. */
	if (a->t->image)
		esnap_image_quiesce(a->t->image);
	/* A worker that saw no failure yet may have begun one more read of the origin. */
	esnap_copy_sync(a->t);
	esnap_copy_drain(ep);
	esnap_store_close(&ep->store);
	esnap_cowfile_unpin(&ep->cowfile);
	WRITE_ONCE(a->t->bdev, NULL);
	esnap_tracker_give(a->t, a->unverified ? ESNAP_UNVERIFIED : ESNAP_DORMANT);
}

void esnap_activate(struct esnap_tracker *t, struct super_block *sb)
{
	struct activation a = {
		.t = t,
		.ep = t->current_epoch,
		.sb = sb,
		.unverified = esnap_tracker_is_unverified(t),
	};
	int err;

	if (!esnap_cowfile_supported(sb) || esnap_cowfile_unrecovered(sb)) {
		pr_info("snapshot %u of %s waits for its filesystem, with recovery\n", t->minor,
			t->bdev_path);
		esnap_tracker_give(t, a.unverified ? ESNAP_UNVERIFIED : ESNAP_DORMANT);
		return;
	}
	err = look(&a);
	if (!err)
		err = take_over(&a);
	if (err)
		fail(&a, err);
	else
		succeed(&a);
	esnap_map_free(a.map);
	kfree(a.cow_path);
}
