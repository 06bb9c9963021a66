// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy before write.
 *
 * The hook puts a write that must wait on the held list.  The save worker reads
 * the blocks that are not saved yet, marks them as saved once the read has
 * ended, and hands the write to the release worker.  What was saved lands in the
 * COW file later (land.c): nobody waits for that, unless the memory for what is
 * saved but not stored is used up.
 *
 * Nothing here waits for memory.  What cannot be had now is had when a read or
 * a batch ends, and there is a reserve with which one can always go on.
 */
#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include "fault.h"
#include "seal.h"
#include "tracker.h"

#define BIO_RESERVE 64

/* --- reading the old content ----------------------------------------------- */

static void end_read(struct bio *bio)
{
	struct esnap_save *save = bio->bi_private;
	struct esnap_copy *c = &save->epoch->tracker->copy;

	save->status = bio->bi_status;
	bio_put(bio);
	/* Once it is on the list the tracker may go; esnap_copy_exit() waits. */
	rcu_read_lock();
	if (llist_add(&save->read_done, &c->read_done))
		queue_work(c->save_wq, &c->save_work);
	rcu_read_unlock();
}

/* Blocks that the store has room for; what is parked is counted when that ends. */
static u64 free_blocks(const struct esnap_epoch *ep)
{
	u64 used, all;

	if (READ_ONCE(ep->parked))
		return U64_MAX;
	used = ep->first_data_block + ep->nr_reserved;
	all = ep->cowfile.size / ELASTIO_SNAP_BLOCK_SIZE;
	return used < all ? all - used : 0;
}

/* Memory comes back when a read or a batch ends; if none will, that is the end. */
static int no_memory(const struct esnap_epoch *ep, int used)
{
	return ep->nr_reading || (used && !READ_ONCE(ep->parked)) ? -EAGAIN : -ENOMEM;
}

/*
 * Starts to save @nr blocks from @first on, or fewer, for @held.  -EAGAIN: not
 * before something has ended; any other error is the snapshot's end.
 */
static struct esnap_save *start_save(struct esnap_epoch *ep, struct bio *held, u64 first, u32 nr)
{
	struct esnap_tracker *t = ep->tracker;
	struct esnap_copy *c = &t->copy;
	/* While the origin is not ours, the held bio's disk cannot go away. */
	struct block_device *own = READ_ONCE(t->bdev);
	struct esnap_target target = own ? esnap_target(own) : esnap_target_disk_of(held);
	u64 base = own ? 0 : t->start;
	u64 room = free_blocks(ep);
	int limit = esnap_fault("no_limit") ? INT_MAX :
					    READ_ONCE(esnap_pending_max_mib) << (20 - PAGE_SHIFT);
	int used = atomic_read(&t->save_pool.nr_pages);
	u64 sectors, sector = first * ELASTIO_SNAP_BLOCK_SECTORS;
	struct esnap_save *save;
	struct bio *bio;
	u32 i;

	if (used >= limit)
		/* Nothing that is parked will ever land. */
		return ERR_PTR(READ_ONCE(ep->parked) ? -ENOMEM : -EAGAIN);
	nr = min3(nr, (u32)ESNAP_RUN_BLOCKS, (u32)(limit - used));
	nr = min_t(u64, nr, max_t(u64, room, 1));
	if (esnap_bitmap_prepare(&ep->index.changes.changed, first, first + nr - 1))
		return ERR_PTR(-ENOMEM);
	if (!room) {
		/* What still fits is saved to the last block before the end. */
		if (ep->nr_reading)
			return ERR_PTR(-EAGAIN);
		/* The block that does not fit counts as changed, too. */
		esnap_index_mark(&ep->index, &ep->index.changes.changed, first, first);
		return ERR_PTR(-EFBIG);
	}
	save = esnap_save_alloc(ep, first, nr);
	if (!save)
		return ERR_PTR(no_memory(ep, used));
	bio = esnap_bio_alloc(target, save->nr, REQ_OP_READ | REQ_SYNC, ESNAP_SAVE_GFP,
			      &c->read_bios);
	if (!bio) {
		esnap_save_free(save);
		return ERR_PTR(no_memory(ep, used));
	}

	/* The origin's last block may be shorter than a block. */
	sectors = min_t(u64, (u64)save->nr * ELASTIO_SNAP_BLOCK_SECTORS, t->nr_sectors - sector);
	bio->bi_iter.bi_sector = base + sector;
	bio->bi_end_io = end_read;
	bio->bi_private = save;
	for (i = 0; i < save->nr; i++) {
		unsigned int len = min_t(u64, sectors, ELASTIO_SNAP_BLOCK_SECTORS) << SECTOR_SHIFT;

		if (len < PAGE_SIZE)
			clear_highpage(save->pages[i]);
		__bio_add_page(bio, save->pages[i], len, 0);
		sectors -= len >> SECTOR_SHIFT;
	}
	ep->nr_reserved += save->nr;
	ep->nr_reading++;
	esnap_save_insert(save);
	submit_bio(bio);
	return save;
}

/*
 * Gets the unsaved ones of the blocks first..last saved.  0: all are; 1: the
 * bio waits for a read; -EAGAIN: for memory; other errors: the snapshot's end.
 */
static int save_blocks(struct esnap_epoch *ep, struct bio *bio, u64 first, u64 last)
{
	struct esnap_bitmap *saved = &ep->index.changes.changed;
	struct esnap_save *wait = NULL;
	int err = 0;
	u64 block;

	for (block = esnap_bitmap_next_zero(saved, first, last); block <= last;
	     block = esnap_bitmap_next_zero(saved, block, last)) {
		u64 end = last;
		/*
		 * A save that holds an unsaved block is still being read, and
		 * only this worker ends that: it cannot go away here.
		 */
		struct esnap_save *save = esnap_save_covering(ep, block, &end);

		if (!save) {
			u64 nr = esnap_bitmap_next_set(saved, block, end) - block;

			save = start_save(ep, bio, block, min_t(u64, nr, U32_MAX));
			if (IS_ERR(save)) {
				err = PTR_ERR(save);
				break;
			}
		}
		if (!wait)
			wait = save;
		block = save->first + save->nr;
	}
	if (err && err != -EAGAIN)
		return err;
	if (wait) {
		bio_list_add(&wait->waiters, bio);
		return 1;
	}
	return err;
}

/* --- the save worker ------------------------------------------------------- */

static void release(struct esnap_copy *c, struct bio *bio)
{
	spin_lock(&c->release_lock);
	bio_list_add(&c->release, bio);
	spin_unlock(&c->release_lock);
	queue_work(c->release_wq, &c->release_work);
}

static void held_done(struct esnap_copy *c, int n)
{
	if (atomic_sub_and_test(n, &c->nr_held))
		wake_up_all(&c->wait);
}

enum verdict {
	/* As far as this epoch goes it may be submitted. */
	ADMITTED,
	/* It waits for a read, or has been ended. */
	TAKEN,
	/* Nothing can be done for it, or for those behind it, now. */
	BLOCKED,
};

/* Does the bio write to the store's own sectors? */
static bool hits_store(struct esnap_tracker *t, struct esnap_epoch *ep, struct bio *bio)
{
	u64 from = max(esnap_bio_disk_sector(bio), t->start);
	u64 to = min(esnap_bio_disk_sector(bio) + bio_sectors(bio), t->start + t->nr_sectors);

	return esnap_store_overlaps(&ep->store, from - t->start, to - from);
}

/*
 * Makes the COW file say that it is not complete, if it says that it is.  -EAGAIN:
 * not now, since it is being closed; other errors: it cannot be made to.
 */
static int unseal(struct esnap_epoch *ep, struct bio *bio)
{
	switch (READ_ONCE(ep->seal)) {
	case ESNAP_OPEN:
		return 0;
	case ESNAP_CLOSING:
		return -EAGAIN;
	case ESNAP_CLEAN:
		break;
	}
	return esnap_seal_break(ep, esnap_target_disk_of(bio), ep->tracker->start);
}

static enum verdict admit(struct esnap_tracker *t, struct esnap_epoch *ep, struct bio *bio,
			  u64 first, u64 last)
{
	enum esnap_mode mode = READ_ONCE(ep->mode);
	struct esnap_bitmap *bm =
		mode == ESNAP_WINDOW ? &ep->index.changes.window : &ep->index.changes.changed;
	bool into_store;
	int err = 0;

	if (mode == ESNAP_PASS)
		return ADMITTED;
	if (mode == ESNAP_SNAPSHOT && !READ_ONCE(ep->settled))
		return BLOCKED;
	into_store = mode != ESNAP_WINDOW && hits_store(t, ep, bio);
	/* What is a change must wait for the COW file not to say that it is complete. */
	if (READ_ONCE(ep->seal) != ESNAP_OPEN &&
	    (into_store || esnap_bitmap_next_zero(bm, first, last) <= last))
		err = unseal(ep, bio);
	if (err == -EAGAIN)
		return BLOCKED;
	if (err) {
		esnap_fail(ep, err, "its COW file does not answer, or is not its own any more");
		return ADMITTED;
	}
	if (into_store) {
		esnap_fail(ep, -EIO, "somebody writes to the COW file's blocks");
		return ADMITTED;
	}
	if (mode != ESNAP_SNAPSHOT) {
		if (esnap_bitmap_prepare(bm, first, last))
			esnap_fail(ep, -ENOMEM, "no memory for the change bitmap");
		else
			esnap_index_mark(&ep->index, bm, first, last);
		return ADMITTED;
	}
	if (bio_op(bio) == REQ_OP_DISCARD &&
	    esnap_bitmap_next_zero(bm, first, last) <= last) {
		/* A hint: what is not discarded needs no copy. */
		bio_endio(bio);
		held_done(&t->copy, 1);
		return TAKEN;
	}
	err = save_blocks(ep, bio, first, last);
	if (err == -EAGAIN)
		return BLOCKED;
	if (err < 0)
		esnap_fail(ep, err, err == -EFBIG ? "the COW file is full" :
						    "no memory to save a block");
	return err > 0 ? TAKEN : ADMITTED;
}

/* The origin is not what it was: the end of every epoch, once its file says so. */
static enum verdict end_epochs(struct esnap_tracker *t, struct bio *bio, int error, const char *why)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);

		if (!ep || READ_ONCE(ep->mode) == ESNAP_PASS)
			continue;
		if (unseal(ep, bio) == -EAGAIN)
			return BLOCKED;
		esnap_fail(ep, error, why);
	}
	return ADMITTED;
}

static enum verdict admit_all(struct esnap_tracker *t, struct bio *bio)
{
	u64 from = max_t(u64, esnap_bio_disk_sector(bio), t->start);
	u64 to = min(esnap_bio_disk_sector(bio) + bio_sectors(bio), t->start + t->nr_sectors);
	const char *why;
	u64 first, last;
	int i, err;

	err = esnap_origin_misses(t, bio, &why);
	if (err)
		return end_epochs(t, bio, err, why);
	/* It was held for what the origin was, and is not any more. */
	if (from >= to)
		return ADMITTED;
	first = (from - t->start) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	last = (to - t->start - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);
		enum verdict verdict = ep ? admit(t, ep, bio, first, last) : ADMITTED;

		if (verdict != ADMITTED)
			return verdict;
	}
	return ADMITTED;
}

static enum verdict process(struct esnap_tracker *t, struct bio *bio)
{
	enum verdict verdict = admit_all(t, bio);

	if (verdict == ADMITTED)
		release(&t->copy, bio);
	return verdict;
}

/*
 * Publish first the data, then the bits: a reader of the image that finds a bit
 * finds the save, and whoever sees the write that is let go sees the bit.
 */
static void finish_read(struct esnap_tracker *t, struct esnap_save *save)
{
	struct esnap_epoch *ep = save->epoch;
	struct esnap_copy *c = &t->copy;

	WRITE_ONCE(ep->nr_reading, ep->nr_reading - 1);
	if (!ep->nr_reading && READ_ONCE(ep->seal) != ESNAP_OPEN)
		wake_up_all(&c->wait);
	if (save->status)
		esnap_fail(ep, -EIO, "the origin cannot be read");
	/* As long as it has not failed, the write that it is for keeps the disk alive. */
	else if (READ_ONCE(ep->mode) == ESNAP_SNAPSHOT && esnap_origin_is_exchanged(t))
		esnap_fail(ep, -ENODEV, "its disk reports another medium");
	bio_list_merge(&c->ready, &save->waiters);
	if (READ_ONCE(ep->mode) != ESNAP_SNAPSHOT) {
		esnap_save_remove(save);
		return;
	}
	esnap_index_mark(&ep->index, &ep->index.changes.changed, save->first,
			 save->first + save->nr - 1);
	esnap_land_add(save);
}

static void save_work(struct work_struct *work)
{
	struct esnap_tracker *t = container_of(work, struct esnap_tracker, copy.save_work);
	struct esnap_copy *c = &t->copy;
	struct llist_node *done = llist_reverse_order(llist_del_all(&c->read_done));
	unsigned int noio = memalloc_noio_save();
	bool blocked = false;
	struct bio_list held;
	struct blk_plug plug;
	struct bio *bio;

	while (done) {
		struct esnap_save *save = llist_entry(done, struct esnap_save, read_done);

		done = done->next;
		finish_read(t, save);
	}
	raw_spin_lock_irq(&c->held_lock);
	held = c->held;
	bio_list_init(&c->held);
	raw_spin_unlock_irq(&c->held_lock);
	bio_list_merge(&c->ready, &held);

	blk_start_plug(&plug);
	while (!blocked && (bio = bio_list_pop(&c->ready))) {
		blocked = process(t, bio) == BLOCKED;
		if (blocked)
			bio_list_add_head(&c->ready, bio);
	}
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);

	if (blocked)
		esnap_land_flush(t);
}

/* --- the release worker ---------------------------------------------------- */

static void release_work(struct work_struct *work)
{
	struct esnap_copy *c = container_of(work, struct esnap_copy, release_work);
	unsigned int noio = memalloc_noio_save();
	struct bio_list bios;
	struct blk_plug plug;
	struct bio *bio;
	int n = 0;

	spin_lock(&c->release_lock);
	bios = c->release;
	bio_list_init(&c->release);
	spin_unlock(&c->release_lock);

	blk_start_plug(&plug);
	while ((bio = bio_list_pop(&bios))) {
		/* The hook sees it again, and finds that it may pass. */
		if (esnap_fault("lose_bio") && bio->bi_iter.bi_sector % 64 == 8)
			bio_endio(bio);
		else
			submit_bio_noacct(bio);
		n++;
	}
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
	if (n)
		held_done(c, n);
}

/* --- life ------------------------------------------------------------------ */

int esnap_copy_init(struct esnap_tracker *t)
{
	struct esnap_copy *c = &t->copy;
	int err;

	raw_spin_lock_init(&c->held_lock);
	spin_lock_init(&c->release_lock);
	bio_list_init(&c->held);
	bio_list_init(&c->ready);
	bio_list_init(&c->release);
	init_llist_head(&c->read_done);
	atomic_set(&c->nr_held, 0);
	init_waitqueue_head(&c->wait);
	INIT_WORK(&c->save_work, save_work);
	INIT_WORK(&c->release_work, release_work);

	err = bioset_init(&c->read_bios, BIO_RESERVE, 0, BIOSET_NEED_BVECS);
	if (err)
		return err;
	err = esnap_save_pool_init(&t->save_pool);
	if (err)
		goto err_bios;
	err = -ENOMEM;
	c->save_wq = alloc_workqueue("esnap_save%u", ESNAP_WORKER_FLAGS, 1, t->minor);
	if (!c->save_wq)
		goto err_pool;
	c->release_wq = alloc_workqueue("esnap_release%u", ESNAP_WORKER_FLAGS, 1, t->minor);
	if (!c->release_wq)
		goto err_save_wq;
	err = esnap_land_init(t);
	if (err)
		goto err_release_wq;
	return 0;

err_release_wq:
	destroy_workqueue(c->release_wq);
err_save_wq:
	destroy_workqueue(c->save_wq);
err_pool:
	esnap_save_pool_exit(&t->save_pool);
err_bios:
	bioset_exit(&c->read_bios);
	return err;
}

void esnap_copy_exit(struct esnap_tracker *t)
{
	struct esnap_copy *c = &t->copy;

	/* The last read or batch may still be on its way out of its end_io. */
	synchronize_rcu();
	esnap_land_exit(t);
	destroy_workqueue(c->release_wq);
	destroy_workqueue(c->save_wq);
	esnap_save_pool_exit(&t->save_pool);
	bioset_exit(&c->read_bios);
}

void esnap_copy_hold(struct esnap_tracker *t, struct bio *bio)
{
	struct esnap_copy *c = &t->copy;
	unsigned long flags;

	esnap_bio_make_waiting(bio);
	atomic_inc(&c->nr_held);
	raw_spin_lock_irqsave(&c->held_lock, flags);
	bio_list_add(&c->held, bio);
	raw_spin_unlock_irqrestore(&c->held_lock, flags);
	queue_work(c->save_wq, &c->save_work);
}

void esnap_copy_kick(struct esnap_tracker *t)
{
	queue_work(t->copy.save_wq, &t->copy.save_work);
	esnap_land_flush(t);
}

void esnap_copy_sync(struct esnap_tracker *t)
{
	flush_work(&t->copy.save_work);
	esnap_land_sync(t);
}

void esnap_copy_wait_held(struct esnap_tracker *t)
{
	esnap_copy_kick(t);
	wait_event(t->copy.wait, !atomic_read(&t->copy.nr_held));
}

void esnap_copy_wait_reads(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;

	flush_work(&t->copy.save_work);
	wait_event(t->copy.wait, !READ_ONCE(ep->nr_reading));
	/* The worker that ended the last read hands it on, too. */
	flush_work(&t->copy.save_work);
}

void esnap_copy_drain(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;

	esnap_copy_kick(t);
	wait_event(t->copy.wait, !READ_ONCE(ep->nr_saves));
}
