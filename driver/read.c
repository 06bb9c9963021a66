// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the old content of blocks, for the writes that wait for it.
 *
 * Nothing here waits for memory.  What cannot be had now is had when a read or
 * a batch ends, and there is a reserve with which one can always go on.
 */
#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>
#include <linux/ioprio.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/sched.h>

#include "fault.h"
#include "tracker.h"

#define BIO_RESERVE 64

/*
 * Where a read ends on a processor that is busy, the one who writes is likely to
 * be there, and to come here with its next write before long: then it takes what
 * was read with it, and no worker has to be switched to.  This is how long the
 * worker leaves it to that.
 */
#define LATE_NS (100 * NSEC_PER_USEC)

/* --- the end of a read ------------------------------------------------------ */

static void kick(struct esnap_copy *c)
{
	queue_work(c->save_wq, &c->save_work);
}

static enum hrtimer_restart on_late(struct hrtimer *timer)
{
	struct esnap_reads *r = container_of(timer, struct esnap_reads, late);
	ktime_t due = ktime_add_ns(READ_ONCE(r->oldest), LATE_NS);

	if (!llist_empty(&r->done) && ktime_before(ktime_get(), due)) {
		hrtimer_set_expires(timer, due);
		return HRTIMER_RESTART;
	}
	/* Pairs with kick_late(): who finds it armed is seen here. */
	atomic_xchg(&r->late_armed, 0);
	if (!llist_empty(&r->done))
		kick(container_of(r, struct esnap_copy, reads));
	return HRTIMER_NORESTART;
}

static void kick_late(struct esnap_reads *r)
{
	WRITE_ONCE(r->oldest, ktime_get());
	if (!atomic_xchg(&r->late_armed, 1))
		hrtimer_start(&r->late, ns_to_ktime(LATE_NS), HRTIMER_MODE_REL);
}

static void end_read(struct bio *bio)
{
	struct esnap_save *save = bio->bi_private;
	struct esnap_copy *c = &save->epoch->tracker->copy;
	struct esnap_reads *r = &c->reads;
	bool own;

	save->status = bio->bi_status;
	WRITE_ONCE(save->epoch->read_at, jiffies);
	if (bio == &save->inline_bio)
		bio_uninit(bio);
	else
		bio_put(bio);
	/* Once it is on the list the tracker may go; esnap_copy_exit() waits. */
	rcu_read_lock();
	/* Whoever saves looks at the list once more behind what it has submitted. */
	own = in_task() && READ_ONCE(c->saver) == current;
	if (llist_add(&save->read_done, &r->done) && !own) {
		if (in_task() || is_idle_task(current))
			kick(c);
		else
			kick_late(r);
	}
	rcu_read_unlock();
}

/* --- its beginning ----------------------------------------------------------- */

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

static struct bio *read_bio(struct esnap_reads *r, struct esnap_save *save,
			    struct esnap_target target)
{
	struct bio *bio = &save->inline_bio;

	if (save->nr <= ESNAP_INLINE_PAGES)
		esnap_bio_init(bio, target, save->inline_vecs, save->nr, REQ_OP_READ | REQ_SYNC);
	else
		bio = esnap_bio_alloc(target, save->nr, REQ_OP_READ | REQ_SYNC, ESNAP_SAVE_GFP,
				      &r->bios);
	if (!bio)
		return NULL;
	/* Others may come to wait for it: the limits of who writes are not its own. */
	bio_associate_blkg_from_css(bio, blkcg_root_css);
	bio->bi_ioprio = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 0);
	return bio;
}

/*
 * Starts to save @nr blocks from @first on, or fewer, for @held.  -EAGAIN: not
 * before something has ended; any other error is the snapshot's end.
 */
static struct esnap_save *start_save(struct esnap_epoch *ep, struct bio *held, u64 first, u32 nr)
{
	struct esnap_tracker *t = ep->tracker;
	struct esnap_reads *r = &t->copy.reads;
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
	bool first_read;
	struct bio *bio;
	u32 i;

	if (used >= limit)
		/* Nothing that is parked will ever land. */
		return ERR_PTR(READ_ONCE(ep->parked) ? -ENOMEM : -EAGAIN);
	nr = min3(nr, (u32)ESNAP_RUN_BLOCKS, (u32)(limit - used));
	nr = min_t(u64, nr, max_t(u64, room, 1));
	if (esnap_bitmap_prepare(&ep->index.changes.changed, first, first + nr - 1,
				 esnap_copy_gfp(&t->copy)))
		return ERR_PTR(-ENOMEM);
	if (!room) {
		/* What still fits is saved to the last block before the end. */
		return ERR_PTR(ep->nr_reading ? -EAGAIN : -EFBIG);
	}
	save = esnap_save_alloc(ep, first, nr);
	if (!save)
		return ERR_PTR(no_memory(ep, used));
	bio = read_bio(r, save, target);
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
	first_read = !ep->nr_reading;
	if (first_read)
		WRITE_ONCE(ep->read_at, jiffies);
	smp_store_release(&ep->nr_reading, ep->nr_reading + 1); /* pairs with watch_reads() */
	/* Later it goes on by itself as long as something is read. */
	if (first_read)
		esnap_land_watch(t);
	save->saver = current;
	esnap_save_insert(save);
	submit_bio(bio);
	return save;
}

int esnap_read_unsaved(struct esnap_epoch *ep, struct bio *bio, u64 first, u64 last)
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
		 * that ends under the save lock: it cannot go away here.
		 */
		struct esnap_save *save = esnap_save_covering(ep, block, &end);

		if (!save) {
			u64 nr = esnap_bitmap_next_set(saved, block, end) - block;

			/* Once incremental mode has begun, the hook may have marked it since. */
			if (!nr)
				continue;
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

bool esnap_read_await(struct esnap_epoch *ep, struct bio *bio, u64 first, u64 last)
{
	struct esnap_bitmap *saved = &ep->index.changes.changed;
	u64 block = first;

	while (ep->nr_reading && block <= last) {
		struct esnap_save *save;
		u64 end = last;

		block = esnap_bitmap_next_zero(saved, block, last);
		if (block > last)
			break;
		save = esnap_save_covering(ep, block, &end);
		if (save) {
			bio_list_add(&save->waiters, bio);
			return true;
		}
		block = end + 1;
	}
	return false;
}

/* --- life ------------------------------------------------------------------ */

int esnap_reads_init(struct esnap_reads *r)
{
	init_llist_head(&r->done);
	atomic_set(&r->late_armed, 0);
	esnap_hrtimer_init(&r->late, on_late);
	return bioset_init(&r->bios, BIO_RESERVE, 0, BIOSET_NEED_BVECS);
}

void esnap_reads_stop(struct esnap_reads *r)
{
	hrtimer_cancel(&r->late);
}

void esnap_reads_exit(struct esnap_reads *r)
{
	bioset_exit(&r->bios);
}
