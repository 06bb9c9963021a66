// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy before write.
 *
 * The hook holds a write that must wait.  Whoever saves has the blocks read that
 * are not saved yet (read.c), marks them as saved once the read has ended, and
 * lets the write go.  That is the save worker, for which the hook puts the write
 * on the held list and which leaves the letting go to the release worker; or it is
 * the one who writes, when its plug ends (plug.c).  What was saved lands in the
 * COW file later (land.c): nobody waits for that, unless the memory for what is
 * saved but not stored is used up.
 */
#include <linux/blkdev.h>
#include <linux/sched/mm.h>

#include "fault.h"
#include "plug.h"
#include "seal.h"
#include "tracker.h"

/* --- letting go ------------------------------------------------------------- */

static void held_done(struct esnap_copy *c, int n)
{
	if (atomic_sub_and_test(n, &c->nr_held))
		esnap_copy_wake(c);
}

/* The hook sees them again, and finds that they may pass. */
static void submit_all(struct esnap_copy *c, struct bio_list *bios)
{
	struct bio *bio;
	int n = 0;

	while ((bio = bio_list_pop(bios))) {
		if (esnap_fault("lose_bio") && bio->bi_iter.bi_sector % 64 == 8)
			bio_endio(bio);
		else
			submit_bio_noacct(bio);
		n++;
	}
	if (n)
		held_done(c, n);
}

/* Has the release worker submit them. */
static void release(struct esnap_copy *c, struct bio_list *bios)
{
	if (bio_list_empty(bios))
		return;
	spin_lock(&c->release_lock);
	bio_list_merge(&c->release, bios);
	spin_unlock(&c->release_lock);
	queue_work(c->release_wq, &c->release_work);
}

static void release_work(struct work_struct *work)
{
	struct esnap_copy *c = container_of(work, struct esnap_copy, release_work);
	unsigned int noio = memalloc_noio_save();
	struct bio_list bios;
	struct blk_plug plug;

	spin_lock(&c->release_lock);
	bios = c->release;
	bio_list_init(&c->release);
	spin_unlock(&c->release_lock);

	blk_start_plug(&plug);
	submit_all(c, &bios);
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
}

/* --- admission -------------------------------------------------------------- */

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
	/* Pairs with esnap_seal_done(): what it closed with is seen. */
	switch (smp_load_acquire(&ep->seal)) {
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
	/*
	 * What is a change must wait for the COW file not to say that it is complete.
	 * Pairs with esnap_seal_done(): what was loaded is seen.
	 */
	if (smp_load_acquire(&ep->seal) != ESNAP_OPEN &&
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
		err = esnap_bitmap_prepare(bm, first, last, esnap_copy_gfp(&t->copy));
		if (err && t->copy.saves_own)
			return BLOCKED;
		if (err)
			esnap_fail(ep, err, "no memory for the change bitmap");
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
	err = esnap_read_unsaved(ep, bio, first, last);
	/* Memory that a program may not have by its policy may be there for the worker. */
	if (err == -EAGAIN || (err == -ENOMEM && t->copy.saves_own))
		return BLOCKED;
	if (err < 0)
		esnap_fail(ep, err, err == -EFBIG ? "the COW file is full" :
						    "no memory to save a block");
	/*
	 * The block that does not fit counts as changed, too; behind the failure, since
	 * a reader of the image would look for it in the index.  The hook may have been
	 * first, once incremental mode has begun.
	 */
	if (err == -EFBIG) {
		first = esnap_bitmap_next_zero(bm, first, last);
		if (first <= last)
			esnap_index_mark(&ep->index, bm, first, first);
	}
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

/* The origin's blocks; false: it was held for what the origin was, and is not any more. */
static bool blocks_of(const struct esnap_tracker *t, struct bio *bio, u64 *first, u64 *last)
{
	u64 from = max_t(u64, esnap_bio_disk_sector(bio), t->start);
	u64 to = min(esnap_bio_disk_sector(bio) + bio_sectors(bio), t->start + t->nr_sectors);

	if (from >= to)
		return false;
	*first = (from - t->start) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	*last = (to - t->start - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	return true;
}

static enum verdict ask_all(struct esnap_tracker *t, struct bio *bio)
{
	const char *why;
	u64 first, last;
	int i, err;

	err = esnap_origin_misses(t, bio, &why);
	if (err)
		return end_epochs(t, bio, err, why);
	if (!blocks_of(t, bio, &first, &last))
		return ADMITTED;
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);
		enum verdict verdict = ep ? admit(t, ep, bio, first, last) : ADMITTED;

		if (verdict != ADMITTED)
			return verdict;
	}
	return ADMITTED;
}

/*
 * While the origin is not ours, nothing but the bio that is held keeps its disk
 * alive: should its epoch fail, it waits all the same until nothing is read for it.
 */
static bool awaits_reads(struct esnap_tracker *t, struct bio *bio)
{
	u64 first, last;
	int i;

	if (READ_ONCE(t->bdev) || !blocks_of(t, bio, &first, &last))
		return false;
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);

		if (ep && esnap_read_await(ep, bio, first, last))
			return true;
	}
	return false;
}

static enum verdict admit_all(struct esnap_tracker *t, struct bio *bio)
{
	enum verdict verdict = ask_all(t, bio);

	return verdict == ADMITTED && awaits_reads(t, bio) ? TAKEN : verdict;
}

/* Of several verdicts on a list: true when all of it could be gone on with. */
static bool save_all(struct esnap_tracker *t, struct bio_list *bios, struct bio_list *admitted)
{
	struct bio *bio;

	while ((bio = bio_list_pop(bios))) {
		switch (admit_all(t, bio)) {
		case ADMITTED:
			bio_list_add(admitted, bio);
			break;
		case TAKEN:
			break;
		case BLOCKED:
			bio_list_add_head(bios, bio);
			return false;
		}
	}
	return true;
}

/* --- the end of reads ------------------------------------------------------- */

/* Then nothing more is to be done for it; if that is not so any more, the hook sees it. */
static bool has_all_of(const struct esnap_save *save, struct bio *bio)
{
	u64 from = save->epoch->tracker->start + save->first * ELASTIO_SNAP_BLOCK_SECTORS;
	u64 sector = esnap_bio_disk_sector(bio);

	return sector >= from &&
	       sector + bio_sectors(bio) <= from + save->nr * ELASTIO_SNAP_BLOCK_SECTORS;
}

/*
 * Publish first the data, then the bits: a reader of the image that finds a bit
 * finds the save, and whoever sees the write that is let go sees the bit.  What
 * has waited goes to @admitted, or to @again when there is more to be done.
 */
static void finish_read(struct esnap_tracker *t, struct esnap_save *save,
			struct bio_list *admitted, struct bio_list *again)
{
	struct esnap_epoch *ep = save->epoch;
	struct bio *bio;

	WRITE_ONCE(ep->nr_reading, ep->nr_reading - 1);
	if (!ep->nr_reading && READ_ONCE(ep->seal) != ESNAP_OPEN)
		esnap_copy_wake(&t->copy);
	if (save->status)
		esnap_fail(ep, -EIO, "the origin cannot be read");
	/* As long as it has not failed, the write that it is for keeps the disk alive. */
	else if (READ_ONCE(ep->mode) == ESNAP_SNAPSHOT && esnap_origin_is_exchanged(t))
		esnap_fail(ep, -ENODEV, "its disk reports another medium");
	while ((bio = bio_list_pop(&save->waiters)))
		bio_list_add(has_all_of(save, bio) ? admitted : again, bio);
	if (READ_ONCE(ep->mode) != ESNAP_SNAPSHOT) {
		esnap_save_remove(save);
		return;
	}
	esnap_index_mark(&ep->index, &ep->index.changes.changed, save->first,
			 save->first + save->nr - 1);
	esnap_land_add(save);
}

/*
 * What has waited for reads that the caller has begun goes to @admitted or @again.
 * True: some have ended.
 */
static bool finish_reads(struct esnap_tracker *t, struct bio_list *admitted,
			 struct bio_list *again)
{
	struct esnap_copy *c = &t->copy;
	struct llist_node *done = llist_reverse_order(llist_del_all(&c->reads.done));
	struct bio_list others = BIO_EMPTY_LIST;
	bool some = done;

	while (done) {
		struct esnap_save *save = llist_entry(done, struct esnap_save, read_done);

		done = done->next;
		if (save->saver == current)
			finish_read(t, save, admitted, again);
		else
			finish_read(t, save, &others, &c->ready);
	}
	release(c, &others);
	return some;
}

/* --- who saves -------------------------------------------------------------- */

/* The save lock is taken. */
static void begin_run(struct esnap_copy *c, bool own)
{
	c->saves_own = own;
	WRITE_ONCE(c->saver, current);
}

static void end_run(struct esnap_copy *c)
{
	WRITE_ONCE(c->saver, NULL);
	mutex_unlock(&c->save_lock);
}

static void take_held(struct esnap_copy *c)
{
	struct bio_list held;

	raw_spin_lock_irq(&c->held_lock);
	held = c->held;
	bio_list_init(&c->held);
	raw_spin_unlock_irq(&c->held_lock);
	bio_list_merge(&c->ready, &held);
}

static void save_work(struct work_struct *work)
{
	struct esnap_tracker *t = container_of(work, struct esnap_tracker, copy.save_work);
	struct bio_list admitted = BIO_EMPTY_LIST;
	struct esnap_copy *c = &t->copy;
	unsigned int noio = memalloc_noio_save();
	struct blk_plug plug;
	bool all, more;

	mutex_lock(&c->save_lock);
	begin_run(c, false);
	finish_reads(t, &admitted, &c->ready);
	take_held(c);
	blk_start_plug(&plug);
	all = save_all(t, &c->ready, &admitted);
	blk_finish_plug(&plug);
	/* A disk of RAM has read by now; what is not done with comes in turn. */
	more = finish_reads(t, &admitted, &c->ready) && !bio_list_empty(&c->ready);
	end_run(c);
	memalloc_noio_restore(noio);

	release(c, &admitted);
	if (more)
		queue_work(c->save_wq, &c->save_work);
	if (!all)
		esnap_land_flush(t);
}

/* Only where nothing can be waited for but what the caller would have waited for. */
static bool may_run_own(struct esnap_tracker *t)
{
	struct esnap_copy *c = &t->copy;
	int i;

	/* Behind those that came first. */
	if (!bio_list_empty(&c->ready) || READ_ONCE(c->held.head))
		return false;
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);

		if (ep && READ_ONCE(ep->seal) != ESNAP_OPEN)
			return false;
	}
	return true;
}

/*
 * What else is in the plug goes before the lock is taken: whatever that waits
 * for must not have the worker wait, too.  The reads go while the lock is held, for a
 * disk of RAM has then read before it is given up.  The writes are left in the plug,
 * which the caller flushes.
 */
bool esnap_copy_run_own(struct esnap_tracker *t, struct bio_list *bios)
{
	struct bio_list admitted = BIO_EMPTY_LIST;
	struct blk_plug *plug = current->plug;
	struct esnap_copy *c = &t->copy;
	struct blk_plug reads;
	unsigned int noio;
	bool all, rest;

	blk_finish_plug(plug);
	if (!mutex_trylock(&c->save_lock)) {
		blk_start_plug(plug);
		return false;
	}
	if (!may_run_own(t)) {
		mutex_unlock(&c->save_lock);
		blk_start_plug(plug);
		return false;
	}
	noio = memalloc_noio_save();
	begin_run(c, true);
	do {
		blk_start_plug(&reads);
		all = save_all(t, bios, &admitted);
		blk_finish_plug(&reads);
		finish_reads(t, &admitted, bios);
	} while (all && !bio_list_empty(bios));
	bio_list_merge(&c->ready, bios);
	rest = !bio_list_empty(&c->ready) || !llist_empty(&c->reads.done);
	end_run(c);
	if (rest)
		queue_work(c->save_wq, &c->save_work);
	blk_start_plug(plug);
	submit_all(c, &admitted);
	memalloc_noio_restore(noio);
	return true;
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
	atomic_set(&c->nr_held, 0);
	atomic_set(&c->nr_plugs, 0);
	mutex_init(&c->save_lock);
	init_waitqueue_head(&c->wait);
	INIT_WORK(&c->save_work, save_work);
	INIT_WORK(&c->release_work, release_work);

	err = esnap_reads_init(&c->reads);
	if (err)
		return err;
	err = esnap_save_pool_init(&t->save_pool);
	if (err)
		goto err_reads;
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
err_reads:
	esnap_reads_exit(&c->reads);
	return err;
}

void esnap_copy_exit(struct esnap_tracker *t)
{
	struct esnap_copy *c = &t->copy;

	wait_event(c->wait, !atomic_read(&c->nr_plugs));
	/* The last plug, read or batch may still be on its way out. */
	synchronize_rcu();
	esnap_reads_stop(&c->reads);
	esnap_land_exit(t);
	destroy_workqueue(c->release_wq);
	destroy_workqueue(c->save_wq);
	esnap_save_pool_exit(&t->save_pool);
	esnap_reads_exit(&c->reads);
}

void esnap_copy_queue(struct esnap_tracker *t, struct bio_list *bios)
{
	struct esnap_copy *c = &t->copy;
	unsigned long flags;

	raw_spin_lock_irqsave(&c->held_lock, flags);
	bio_list_merge(&c->held, bios);
	raw_spin_unlock_irqrestore(&c->held_lock, flags);
	queue_work(c->save_wq, &c->save_work);
}

void esnap_copy_hold(struct esnap_tracker *t, struct bio *bio)
{
	/* Who must not wait for its write must not wait for a read either. */
	bool patient = !(bio->bi_opf & REQ_NOWAIT);
	struct bio_list one = BIO_EMPTY_LIST;

	esnap_bio_make_waiting(bio);
	atomic_inc(&t->copy.nr_held);
	if (patient && esnap_plug_hold(t, bio))
		return;
	bio_list_add(&one, bio);
	esnap_copy_queue(t, &one);
}

void esnap_copy_kick(struct esnap_tracker *t)
{
	queue_work(t->copy.save_wq, &t->copy.save_work);
	esnap_land_flush(t);
}

/* Whoever saves from now on sees what was done before. */
static void wait_runs(struct esnap_copy *c)
{
	flush_work(&c->save_work);
	mutex_lock(&c->save_lock);
	mutex_unlock(&c->save_lock);
}

void esnap_copy_sync(struct esnap_tracker *t)
{
	wait_runs(&t->copy);
	esnap_land_sync(t);
}

void esnap_copy_wait_held(struct esnap_tracker *t)
{
	esnap_copy_kick(t);
	wait_event(t->copy.wait, !atomic_read(&t->copy.nr_held));
}

void esnap_copy_wait_reads(struct esnap_epoch *ep)
{
	struct esnap_copy *c = &ep->tracker->copy;

	wait_runs(c);
	wait_event(c->wait, !READ_ONCE(ep->nr_reading));
	/* Who has ended the last read hands it on, too. */
	wait_runs(c);
}

void esnap_copy_drain(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;

	esnap_copy_kick(t);
	wait_event(t->copy.wait, !READ_ONCE(ep->nr_saves));
}
