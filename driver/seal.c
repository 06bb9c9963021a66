// SPDX-License-Identifier: GPL-2.0-only
/* What the COW file on disk says of itself. */
#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>

#include "fault.h"
#include "fingerprint.h"
#include "seal.h"
#include "tracker.h"

#define HEADER_BLOCK 0

/* Durable when it returns, and after all that was written before. */
static int write_header(struct esnap_epoch *ep)
{
	return esnap_store_rw_block(&ep->store,
				    REQ_OP_WRITE | REQ_SYNC | REQ_PREFLUSH | REQ_FUA,
				    HEADER_BLOCK, ep->header);
}

static u32 flags_of(const struct esnap_epoch *ep)
{
	return esnap_tracker_is_snapshot(ep->tracker) ? 0 : ELASTIO_SNAP_COW_INDEX_ONLY;
}

static bool says_clean(const struct esnap_epoch *ep)
{
	const struct elastio_snap_cow_header *disk = page_address(ep->header);

	return le32_to_cpu(disk->flags) & ELASTIO_SNAP_COW_CLEAN;
}

static int write_dirty(struct esnap_epoch *ep)
{
	int err;

	esnap_header_set_flags(page_address(ep->header), flags_of(ep));
	err = write_header(ep);
	/* As far as is known the disk says so still: whoever comes next must try it, too. */
	if (err)
		esnap_header_set_flags(page_address(ep->header),
				       flags_of(ep) | ELASTIO_SNAP_COW_CLEAN);
	return err;
}

static int write_clean(struct esnap_epoch *ep)
{
	const struct esnap_map *map = rcu_dereference_protected(ep->store.map, true);
	struct esnap_tracker *t = ep->tracker;
	void *page = page_address(ep->header);
	struct esnap_raw_header header = {
		.origin_sectors = t->nr_sectors,
		.nr_extents = map->nr,
		.extents_digest = esnap_header_digest(map, ep->uuid),
	};
	int err;

	err = esnap_index_save(&ep->index, esnap_tracker_is_snapshot(t), esnap_header_groups(page),
			       &header.tail_entry);
	if (!err)
		err = esnap_fingerprint(t->bdev, &ep->store.bios, ep->found,
					&header.fingerprint);
	if (err)
		return err;
	esnap_epoch_header(ep, flags_of(ep) | ELASTIO_SNAP_COW_CLEAN, &header.common);
	esnap_header_encode_raw(&header, ep->index.nr_sections, page);
	return write_header(ep);
}

static int close_file(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;
	int err;

	/* A raw writer's dirty pages are changes, too. */
	err = sync_blockdev(t->bdev);
	if (err)
		return err;
	WRITE_ONCE(ep->seal, ESNAP_CLOSING);
	synchronize_rcu();
	/* The workers see it, too; then no save begins, and those begun land. */
	esnap_copy_sync(t);
	esnap_copy_drain(ep);
	esnap_copy_sync(t);
	err = READ_ONCE(ep->error);
	if (err)
		return err;
	if (!esnap_store_get(&ep->store))
		return -ENODEV;
	mutex_lock(&ep->seal_lock);
	err = write_clean(ep) ?: READ_ONCE(ep->error);
	/* It may say so all the same, and nobody will keep it true. */
	if (err && says_clean(ep))
		write_dirty(ep);
	mutex_unlock(&ep->seal_lock);
	esnap_store_put(&ep->store);
	return err;
}

int esnap_seal(struct esnap_epoch *ep)
{
	int err = READ_ONCE(ep->error);

	if (err)
		return err;
	err = close_file(ep);
	if (err)
		esnap_fail(ep, err, "its COW file cannot be closed");
	return err;
}

void esnap_seal_done(struct esnap_epoch *ep, enum esnap_seal seal)
{
	smp_store_release(&ep->seal, seal); /* pairs with unseal() and admit() */
	esnap_copy_kick(ep->tracker);
}

int esnap_seal_check(struct esnap_epoch *ep)
{
	int err;

	err = esnap_store_rw_block(&ep->store, REQ_OP_READ, HEADER_BLOCK, ep->found);
	if (err)
		return err;
	return memcmp(page_address(ep->found), page_address(ep->header),
		      ELASTIO_SNAP_HEADER_SIZE) ? -EIO : 0;
}

int esnap_seal_open(struct esnap_epoch *ep)
{
	int err = 0;

	mutex_lock(&ep->seal_lock);
	if (says_clean(ep))
		err = write_dirty(ep);
	if (!err)
		WRITE_ONCE(ep->seal, ESNAP_OPEN);
	mutex_unlock(&ep->seal_lock);
	return err;
}

/*
 * Without pins the block could be somebody else's by now: it must be ours still.
 * A write of another to it is a change, and would be held behind this one.
 */
static int break_clean(struct esnap_epoch *ep, struct esnap_target target, u64 base)
{
	int err;

	if (!esnap_store_get(&ep->store))
		return -ENODEV;
	if (READ_ONCE(ep->tracker->bdev))
		esnap_store_accept_medium(&ep->store);
	else
		esnap_store_aim(&ep->store, target, base);
	err = esnap_seal_check(ep);
	if (!err && !esnap_fault("leave_clean"))
		err = write_dirty(ep);
	esnap_store_put(&ep->store);
	return err;
}

int esnap_seal_break(struct esnap_epoch *ep, struct esnap_target target, u64 base)
{
	int err;

	mutex_lock(&ep->seal_lock);
	err = says_clean(ep) ? break_clean(ep, target, base) : 0;
	/* It may have begun to be closed anew, which this must not end. */
	if (!err && cmpxchg(&ep->seal, ESNAP_CLEAN, ESNAP_OPEN) == ESNAP_CLOSING)
		err = -EAGAIN;
	mutex_unlock(&ep->seal_lock);
	return err;
}

int esnap_seal_read(struct esnap_epoch *ep, struct esnap_raw_header *header)
{
	int err;

	err = esnap_store_rw_block(&ep->store, REQ_OP_READ, HEADER_BLOCK, ep->header);
	if (err)
		return err;
	return esnap_header_decode_raw(page_address(ep->header), ep->index.nr_sections, header);
}
