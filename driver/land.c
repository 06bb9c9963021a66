// SPDX-License-Identifier: GPL-2.0-only
/*
 * What was saved lands in the store: the store worker writes it to the COW file
 * in long batches, and the mapping knows it before it leaves memory.
 */
#include <linux/blkdev.h>
#include <linux/sched/mm.h>

#include "tracker.h"

/* So many blocks are worth a write to the store; fewer wait for so long. */
#define STORE_BLOCKS 64
#define STORE_DELAY msecs_to_jiffies(10)

/*
 * A store write that takes longer fails the snapshot; likewise reads of old content,
 * when none of them ends for so long.  With as many of them as may be in memory, a
 * part of the origin that does not answer would hold up first writes to all others.
 */
#define TIMEOUT (120 * HZ)

/*
 * Of all trackers.  With a queue in common with the store worker, the one rescuer of
 * a machine without memory could be in the worker that is to be watched.
 */
static struct workqueue_struct *watchdog_wq;

int esnap_land_module_init(void)
{
	watchdog_wq = alloc_workqueue("esnap_watchdog", ESNAP_WORKER_FLAGS, 0);
	return watchdog_wq ? 0 : -ENOMEM;
}

void esnap_land_module_exit(void)
{
	destroy_workqueue(watchdog_wq);
}

static void end_batch(struct esnap_sio *sio)
{
	struct esnap_batch *batch = container_of(sio, struct esnap_batch, sio);
	struct esnap_land *land = &batch->epoch->tracker->land;

	/* Once it is on the list the tracker may go; esnap_copy_exit() waits. */
	rcu_read_lock();
	llist_add(&batch->landed, &land->landed);
	mod_delayed_work(land->wq, &land->work, 0);
	rcu_read_unlock();
}

/* The mapping knows a save before it leaves memory. */
static void finish_batch(struct esnap_batch *batch)
{
	struct esnap_epoch *ep = batch->epoch;
	u64 cow_block = batch->cow_block;
	struct esnap_save *save, *next;

	if (batch->sio.error)
		esnap_fail(ep, batch->sio.error, "the COW file cannot be written");
	list_for_each_entry_safe(save, next, &batch->saves, list) {
		if (READ_ONCE(ep->mode) == ESNAP_SNAPSHOT) {
			int err = esnap_index_map(&ep->index, save->first, save->nr, cow_block);

			if (err)
				esnap_fail(ep, err, "the index cannot be kept");
		}
		cow_block += save->nr;
		list_del(&save->list);
		esnap_save_remove(save);
	}
	smp_store_release(&batch->busy, false); /* pairs with watch_batch() */
	esnap_store_put(&ep->store);
}

static struct esnap_batch *free_batch(struct esnap_land *land)
{
	int i;

	for (i = 0; i < ESNAP_NR_BATCHES; i++)
		if (!land->batches[i].busy)
			return &land->batches[i];
	return NULL;
}

/* Moves at most @max blocks of what is unstored to @list; at least one save. */
static u64 take_unstored(struct esnap_epoch *ep, struct list_head *list, u64 max)
{
	u64 nr = 0;

	spin_lock(&ep->lock);
	while (!list_empty(&ep->unstored)) {
		struct esnap_save *save =
			list_first_entry(&ep->unstored, struct esnap_save, list);

		if (nr && nr + save->nr > max)
			break;
		nr += save->nr;
		list_move_tail(&save->list, list);
	}
	ep->nr_unstored -= nr;
	spin_unlock(&ep->lock);
	return nr;
}

static void drop_unstored(struct esnap_epoch *ep)
{
	struct esnap_save *save, *next;
	LIST_HEAD(list);

	take_unstored(ep, &list, U64_MAX);
	list_for_each_entry_safe(save, next, &list, list) {
		list_del(&save->list);
		esnap_save_remove(save);
	}
}

/* The caller holds a use of the store, which goes with the batch. */
static void start_batch(struct esnap_epoch *ep, struct esnap_batch *batch)
{
	struct esnap_transfer x;
	struct esnap_save *save;
	u64 cow_block = ep->next_cow_block;
	u32 i;

	batch->epoch = ep;
	WRITE_ONCE(batch->started, jiffies);
	smp_store_release(&batch->busy, true); /* pairs with watch_batch() */
	batch->cow_block = cow_block;
	INIT_LIST_HEAD(&batch->saves);
	ep->next_cow_block += take_unstored(ep, &batch->saves, ESNAP_RUN_BLOCKS);
	esnap_land_watch(ep->tracker);

	esnap_transfer_start(&x, &ep->store, REQ_OP_WRITE, &batch->sio);
	list_for_each_entry(save, &batch->saves, list)
		for (i = 0; i < save->nr; i++)
			esnap_transfer_add(&x, cow_block++, save->pages[i]);
	esnap_transfer_finish(&x);
}

/* Returns when to come back in jiffies, or MAX_JIFFY_OFFSET for: when kicked. */
static unsigned long store_epoch(struct esnap_epoch *ep, bool flush)
{
	struct esnap_land *land = &ep->tracker->land;
	u64 nr;

	while ((nr = READ_ONCE(ep->nr_unstored))) {
		unsigned long flush_at = READ_ONCE(ep->flush_at), now = jiffies;
		struct esnap_batch *batch;

		if (READ_ONCE(ep->mode) != ESNAP_SNAPSHOT) {
			drop_unstored(ep);
			break;
		}
		if (READ_ONCE(ep->parked))
			break;
		if (nr < STORE_BLOCKS && !flush && time_before(now, flush_at))
			return flush_at - now;
		batch = free_batch(land);
		if (!batch)
			break;
		/* Never behind the end of the file: what is there is not ours. */
		if (ep->next_cow_block + nr > ep->cowfile.size / ELASTIO_SNAP_BLOCK_SIZE) {
			esnap_fail(ep, -EFBIG, "the COW file is full");
			continue;
		}
		if (!esnap_store_get(&ep->store)) {
			/* Closed while a snapshot is active: the filesystem ends. */
			esnap_fail(ep, -ENODEV, "the filesystem of the COW file has ended");
			continue;
		}
		start_batch(ep, batch);
	}
	return MAX_JIFFY_OFFSET;
}

static void land_work(struct work_struct *work)
{
	struct esnap_tracker *t =
		container_of(to_delayed_work(work), struct esnap_tracker, land.work);
	struct esnap_land *land = &t->land;
	struct llist_node *landed = llist_reverse_order(llist_del_all(&land->landed));
	unsigned int noio = memalloc_noio_save();
	bool flush = xchg(&land->flush, false);
	unsigned long delay = MAX_JIFFY_OFFSET;
	struct blk_plug plug;
	int i;

	while (landed) {
		struct esnap_batch *batch = llist_entry(landed, struct esnap_batch, landed);

		landed = landed->next;
		finish_batch(batch);
	}
	blk_start_plug(&plug);
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);

		if (ep)
			delay = min(delay, store_epoch(ep, flush));
	}
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
	/* Does nothing when somebody has kicked us meanwhile. */
	if (delay != MAX_JIFFY_OFFSET)
		queue_delayed_work(land->wq, &land->work, delay);
}

static bool is_late(unsigned long since)
{
	return time_after_eq(jiffies, since + TIMEOUT);
}

/* Is something of the batch under way? */
static bool watch_batch(struct esnap_batch *batch)
{
	if (!smp_load_acquire(&batch->busy)) /* pairs with start_batch() */
		return false;
	if (is_late(READ_ONCE(batch->started)))
		esnap_fail(batch->epoch, -ETIMEDOUT, "the COW file's device does not answer");
	return true;
}

/* Is old content being read? */
static bool watch_reads(struct esnap_epoch *ep)
{
	if (!smp_load_acquire(&ep->nr_reading)) /* pairs with start_save() */
		return false;
	if (is_late(READ_ONCE(ep->read_at)))
		esnap_fail(ep, -ETIMEDOUT, "its device does not answer");
	return true;
}

static void watchdog(struct work_struct *work)
{
	struct esnap_tracker *t =
		container_of(to_delayed_work(work), struct esnap_tracker, land.watchdog);
	bool busy = false;
	int i;

	for (i = 0; i < ESNAP_NR_BATCHES; i++)
		busy |= watch_batch(&t->land.batches[i]);
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = esnap_worker_epoch(t, i);

		if (ep)
			busy |= watch_reads(ep);
	}
	if (busy)
		queue_delayed_work(watchdog_wq, &t->land.watchdog, TIMEOUT / 4);
}

void esnap_land_watch(struct esnap_tracker *t)
{
	queue_delayed_work(watchdog_wq, &t->land.watchdog, TIMEOUT);
}

void esnap_land_add(struct esnap_save *save)
{
	struct esnap_epoch *ep = save->epoch;
	struct esnap_land *land = &ep->tracker->land;
	u64 nr;

	spin_lock(&ep->lock);
	if (list_empty(&ep->unstored))
		ep->flush_at = jiffies + STORE_DELAY;
	list_add_tail(&save->list, &ep->unstored);
	nr = ep->nr_unstored += save->nr;
	spin_unlock(&ep->lock);
	if (nr >= STORE_BLOCKS)
		mod_delayed_work(land->wq, &land->work, 0);
	else
		queue_delayed_work(land->wq, &land->work, STORE_DELAY);
}

void esnap_land_flush(struct esnap_tracker *t)
{
	struct esnap_land *land = &t->land;

	WRITE_ONCE(land->flush, true);
	mod_delayed_work(land->wq, &land->work, 0);
}

void esnap_land_sync(struct esnap_tracker *t)
{
	flush_delayed_work(&t->land.work);
	flush_work(&t->land.watchdog.work);
}

int esnap_land_init(struct esnap_tracker *t)
{
	struct esnap_land *land = &t->land;
	int i;

	init_llist_head(&land->landed);
	INIT_DELAYED_WORK(&land->work, land_work);
	INIT_DELAYED_WORK(&land->watchdog, watchdog);
	for (i = 0; i < ESNAP_NR_BATCHES; i++)
		land->batches[i].sio.done = end_batch;
	land->wq = alloc_workqueue("esnap_store%u", ESNAP_WORKER_FLAGS, 1, t->minor);
	return land->wq ? 0 : -ENOMEM;
}

void esnap_land_exit(struct esnap_tracker *t)
{
	cancel_delayed_work_sync(&t->land.watchdog);
	cancel_delayed_work_sync(&t->land.work);
	destroy_workqueue(t->land.wq);
}
