// SPDX-License-Identifier: GPL-2.0-only
/* One snapshot instant: its making, its switch, what it says to a write. */
#include <linux/math64.h>
#include <linux/rcupdate_wait.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "drain.h"
#include "fault.h"
#include "registry.h"
#include "tracker.h"

/* A write to more blocks than this is marked by the worker, not in the hook. */
#define MARK_BLOCKS 4096

/* Room for data below which a COW file makes no sense. */
#define MIN_DATA_SIZE SZ_1M

/* --- life ------------------------------------------------------------------ */

static int cow_size(struct esnap_tracker *t, u64 size_mib, u64 first_data_block, u64 *size)
{
	u64 min = first_data_block * ELASTIO_SNAP_BLOCK_SIZE + MIN_DATA_SIZE;

	if (size_mib > MAX_LFS_FILESIZE >> 20)
		return -EFBIG;
	if (size_mib)
		*size = size_mib << 20;
	else
		*size = PAGE_ALIGN(mul_u64_u32_div(t->nr_sectors << SECTOR_SHIFT,
						   esnap_cow_percentage, 100));
	if (*size < min) {
		pr_err("a COW file of %llu bytes is too small for %s: give it at least %llu MiB\n",
		       *size, t->bdev_path, DIV_ROUND_UP_ULL(min, 1 << 20));
		return -EINVAL;
	}
	return 0;
}

void esnap_epoch_header(const struct esnap_epoch *ep, u32 flags, struct esnap_header *header)
{
	header->flags = flags;
	header->next_block = ep->next_cow_block;
	header->size = ep->cowfile.size;
	header->seqid = ep->seqid;
	memcpy(header->uuid, ep->uuid, sizeof(header->uuid));
	header->nr_changed = atomic64_read(&ep->index.nr_changed);
}

/* An epoch without a COW file, which lets everything pass. */
static struct esnap_epoch *new_epoch(struct esnap_tracker *t)
{
	u64 nr_sections = esnap_index_sections(t->nr_sectors);
	struct esnap_epoch *ep = kzalloc(sizeof(*ep), GFP_KERNEL);
	int err = -ENOMEM;

	if (!ep)
		return ERR_PTR(-ENOMEM);
	ep->tracker = t;
	ep->mode = ESNAP_PASS;
	ep->seal = ESNAP_OPEN;
	ep->first_data_block = esnap_first_data_block(nr_sections);
	ep->next_cow_block = ep->first_data_block;
	mutex_init(&ep->seal_lock);
	spin_lock_init(&ep->lock);
	ep->saves = RB_ROOT;
	INIT_LIST_HEAD(&ep->unstored);
	ep->header = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!ep->header)
		goto err_free;
	ep->found = alloc_page(GFP_KERNEL);
	if (!ep->found)
		goto err_header;
	err = esnap_store_init(&ep->store);
	if (err)
		goto err_found;
	err = esnap_index_init(&ep->index, t->nr_sectors, esnap_tracker_cache(t), &ep->store);
	if (err)
		goto err_store;
	return ep;

err_store:
	esnap_store_close(&ep->store);
	esnap_store_free(&ep->store);
err_found:
	__free_page(ep->found);
err_header:
	esnap_store_free_page(ep->header);
err_free:
	kfree(ep);
	return ERR_PTR(err);
}

struct esnap_epoch *esnap_epoch_create(struct esnap_tracker *t, struct super_block *sb,
				       const char *cow, u64 size_mib, u64 seqid,
				       const u8 uuid[16])
{
	struct esnap_epoch *ep = new_epoch(t);
	struct esnap_header header;
	struct esnap_map *map;
	int err;

	if (IS_ERR(ep))
		return ep;
	ep->seqid = seqid;
	memcpy(ep->uuid, uuid, sizeof(ep->uuid));
	esnap_store_aim(&ep->store, esnap_target(sb->s_bdev), 0);
	/* To wait for whoever froze it would make every other call wait, too. */
	err = -EBUSY;
	if (!sb_start_write_trylock(sb)) {
		pr_err("%s: its filesystem is frozen: thaw it first\n", t->bdev_path);
		goto err_epoch;
	}
	sb_end_write(sb);
	err = cow_size(t, size_mib, ep->first_data_block, &ep->cowfile.size);
	if (err)
		goto err_epoch;
	esnap_epoch_header(ep, 0, &header);
	err = esnap_cowfile_create(&ep->cowfile, cow, sb, ep->cowfile.size, t->nr_sectors,
				   &header, &map, &ep->cow_path);
	if (err)
		goto err_epoch;
	rcu_assign_pointer(ep->store.map, map);
	return ep;

err_epoch:
	esnap_store_close(&ep->store);
	esnap_epoch_free(ep);
	return ERR_PTR(err);
}

struct esnap_epoch *esnap_epoch_expect(struct esnap_tracker *t, const char *cow)
{
	struct esnap_epoch *ep = new_epoch(t);

	if (IS_ERR(ep))
		return ep;
	ep->parked = true;
	ep->settled = true;
	ep->cow_path = kstrdup(cow, GFP_KERNEL);
	if (ep->cow_path)
		return ep;
	esnap_store_close(&ep->store);
	esnap_epoch_free(ep);
	return ERR_PTR(-ENOMEM);
}

void esnap_epoch_free(struct esnap_epoch *ep)
{
	esnap_index_free(&ep->index);
	esnap_store_free(&ep->store);
	__free_page(ep->found);
	esnap_store_free_page(ep->header);
	kfree(ep->cow_path);
	kfree(ep);
}

/* --- the instant ----------------------------------------------------------- */

static void sync_before_freeze(struct super_block *sb)
{
	/*
	 * What the freeze itself writes is marked as changed since it may come
	 * before or after the instant: leave it as little as possible to write.
	 */
	down_read(&sb->s_umount);
	sync_filesystem(sb);
	up_read(&sb->s_umount);
}

/*
 * Marking begins before the freeze and holding inside it.  The freeze waits for
 * the filesystem's own writes only; a raw write, swap or a discard that passed
 * the hook before the switch and lands after it is in the bits of the window.
 */
int esnap_epoch_publish(struct esnap_epoch *ep, unsigned int slot, struct super_block *sb)
{
	struct esnap_tracker *t = ep->tracker;
	struct block_device *bdev = sb->s_bdev;
	int err;

	sync_before_freeze(sb);
	WRITE_ONCE(ep->mode, ESNAP_WINDOW);
	rcu_assign_pointer(t->slots[slot], ep);
	synchronize_rcu();

	if (esnap_fault("publish_early")) {
		WRITE_ONCE(ep->mode, ESNAP_SNAPSHOT);
		WRITE_ONCE(ep->settled, true);
	}
	err = esnap_freeze(sb);
	if (err)
		goto err_unpublish;
	/* Anybody may thaw a filesystem, and freeze it, but not while this is held. */
	down_read(&sb->s_umount);
	if (READ_ONCE(sb->s_writers.frozen) != SB_FREEZE_COMPLETE)
		err = -EBUSY;
	/* A nested freeze does not do it. */
	sync_blockdev(bdev);
	if (!err && cmpxchg(&ep->mode, ESNAP_WINDOW, ESNAP_SNAPSHOT) != ESNAP_WINDOW) {
		smp_rmb(); /* pairs with esnap_fail(): the error comes before the mode */
		err = READ_ONCE(ep->error);
	}
	/* Every write from here on is held if it must be. */
	synchronize_rcu_expedited();
	WRITE_ONCE(ep->settled, true);
	esnap_copy_kick(t);
	up_read(&sb->s_umount);
	if (esnap_thaw(sb))
		pr_warn("%s: the filesystem was thawed by somebody else\n", t->bdev_path);
	if (err)
		goto err_unpublish;
	err = esnap_fault("no_drain") ? 0 : esnap_drain(bdev);
	if (err)
		goto err_unpublish;
	return 0;

err_unpublish:
	esnap_epoch_unpublish(ep);
	return err;
}

void esnap_epoch_publish_expected(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;

	WRITE_ONCE(ep->mode, esnap_tracker_is_snapshot(t) ? ESNAP_SNAPSHOT : ESNAP_INCREMENTAL);
	rcu_assign_pointer(t->slots[0], ep);
	synchronize_rcu();
}

/*
 * Failed or closing first, then the barrier, then nothing is held any more:
 * whoever reads the image looks at the mode after the read has ended.
 */
void esnap_epoch_unpublish(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;
	int i;

	xchg(&ep->mode, ESNAP_PASS);
	synchronize_rcu();
	/* Held bios may belong to this epoch; the workers still know it. */
	esnap_copy_drain(ep);
	for (i = 0; i < ARRAY_SIZE(t->slots); i++)
		if (rcu_access_pointer(t->slots[i]) == ep)
			RCU_INIT_POINTER(t->slots[i], NULL);
	synchronize_rcu();
	esnap_copy_kick(t);
	esnap_copy_sync(t);
	/*
	 * A worker that had looked at the mode before it changed may have begun
	 * one more save; no other follows, since none sees the slot any more.
	 */
	esnap_copy_drain(ep);
	esnap_copy_sync(t);
}

/*
 * The extents behind the index leave the map before the file is cut: as soon as
 * it is, they may be somebody else's, and writes to them are no offence.
 */
void esnap_epoch_shrink(struct esnap_epoch *ep)
{
	u64 size = ep->first_data_block * ELASTIO_SNAP_BLOCK_SIZE;
	struct esnap_map *old = rcu_dereference_protected(ep->store.map, true);
	struct esnap_map *clipped = esnap_map_clip(old, size >> SECTOR_SHIFT);
	struct esnap_map *map;
	int err;

	if (!clipped) {
		pr_warn("%s: no memory to shrink the COW file\n", ep->tracker->bdev_path);
		return;
	}
	rcu_assign_pointer(ep->store.map, clipped);
	esnap_map_free_rcu(old);
	err = esnap_cowfile_shrink(&ep->cowfile, size, ep->tracker->nr_sectors, &map);
	if (IS_ERR(map)) {
		esnap_fail(ep, PTR_ERR(map), "the COW file was touched while it was shrunk");
		return;
	}
	if (err) {
		pr_warn("%s: the COW file cannot be shrunk (%d); its space stays in use\n",
			ep->tracker->bdev_path, err);
		return;
	}
	if (!esnap_map_equal(map, clipped))
		esnap_fail(ep, -EIO, "the COW file's blocks have moved");
	esnap_map_free(map);
}

void esnap_epoch_mark_store_of(struct esnap_epoch *ep, const struct esnap_epoch *other)
{
	const struct esnap_map *map = rcu_dereference_protected(other->store.map, true);
	struct esnap_bitmap *bm = &ep->index.changes.changed;
	u32 i;

	for (i = 0; i < map->nr; i++) {
		const struct esnap_extent *e = &map->by_disk[i];
		u64 first = e->disk_sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
		u64 last = (e->disk_sector + e->nr_sectors - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;

		if (esnap_bitmap_prepare(bm, first, last, ESNAP_BITMAP_GFP)) {
			esnap_fail(ep, -ENOMEM, "no memory for the change bitmap");
			return;
		}
		esnap_index_mark(&ep->index, bm, first, last);
	}
}

int esnap_epoch_write_out(struct esnap_epoch *ep, const char *neighbour)
{
	struct dentry *dentry = dget(ep->cowfile.dentry);
	struct esnap_header header;
	struct file *file;
	int err;

	esnap_cowfile_unpin(&ep->cowfile);
	file = esnap_cowfile_open(dentry, neighbour);
	dput(dentry);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = esnap_index_write(&ep->index, file);
	/* The index first: a header that says clean must be true. */
	if (!err)
		err = vfs_fsync(file, 0);
	esnap_epoch_header(ep, ELASTIO_SNAP_COW_CLEAN | ELASTIO_SNAP_COW_INDEX_ONLY, &header);
	if (!err)
		err = esnap_cowfile_write_header(file, &header);
	if (!err)
		err = vfs_fsync(file, 0);
	fput(file);
	return err;
}

/* --- on the I/O path ------------------------------------------------------- */

void esnap_fail(struct esnap_epoch *ep, int error, const char *why)
{
	struct esnap_tracker *t = ep->tracker;
	int former = cmpxchg(&ep->error, 0, error);

	/*
	 * Full barriers: see esnap_epoch_unpublish().  Whoever comes second must
	 * not find the former mode, although the first is still on its way here.
	 */
	xchg(&ep->mode, ESNAP_PASS);
	if (former)
		return;
	pr_err("snapshot %u of %s failed (%d): %s\n", t->minor, t->bdev_path, error, why);
	esnap_copy_kick(t);
	esnap_registry_reap();
}

bool esnap_epoch_admits(struct esnap_epoch *ep, struct bio *bio, u64 sector, u64 nr)
{
	u64 first = sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	u64 last = (sector + nr - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	struct esnap_bitmap *bm = &ep->index.changes.changed;
	enum esnap_mode mode = READ_ONCE(ep->mode);

	if (mode == ESNAP_PASS)
		return true;
	if (mode == ESNAP_WINDOW)
		bm = &ep->index.changes.window;
	if (esnap_bitmap_next_zero(bm, first, last) > last) {
		/* Only a block that is the store's in part gets its bit. */
		if (!esnap_store_shares_blocks(&ep->store) || mode == ESNAP_WINDOW ||
		    !esnap_store_overlaps(&ep->store, sector, nr))
			return true;
		if (READ_ONCE(ep->seal) != ESNAP_OPEN)
			return false;
		esnap_fail(ep, -EIO, "somebody writes to the COW file's blocks");
		return true;
	}
	if (READ_ONCE(ep->seal) != ESNAP_OPEN)
		return false;
	if (mode == ESNAP_SNAPSHOT) {
		if (esnap_fault("skip_save"))
			return true;
		/* A discard that the device will refuse changes nothing. */
		return bio_op(bio) == REQ_OP_DISCARD &&
		       (esnap_fault("pass_discard") || !esnap_bio_can_discard(bio));
	}
	if (last - first >= MARK_BLOCKS || !esnap_bitmap_is_prepared(bm, first, last))
		return false;
	if (mode == ESNAP_INCREMENTAL && esnap_store_overlaps(&ep->store, sector, nr)) {
		esnap_fail(ep, -EIO, "somebody writes to the COW file's blocks");
		return true;
	}
	if (esnap_fault("drop_bit"))
		first++;
	esnap_index_mark(&ep->index, bm, first, last);
	return true;
}
