/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_COPY_H
#define ESNAP_COPY_H

#include <linux/bio.h>
#include <linux/llist.h>
#include <linux/mempool.h>
#include <linux/refcount.h>
#include <linux/rbtree.h>
#include <linux/workqueue.h>

#include "esnap.h"
#include "store.h"

struct esnap_epoch;
struct esnap_tracker;

#define ESNAP_NR_BATCHES 8
#define ESNAP_INLINE_PAGES 4

/*
 * The old content of a run of blocks, from the start of its read until it has
 * landed in the store.
 */
struct esnap_save {
	struct rb_node node;
	refcount_t refs;
	struct esnap_epoch *epoch;
	u64 first;
	u32 nr;
	blk_status_t status;
	/* Bios that wait for the read; only the save worker touches them. */
	struct bio_list waiters;
	union {
		struct llist_node read_done;
		struct list_head list;
	};
	struct page **pages;
	struct page *inline_pages[ESNAP_INLINE_PAGES];
};

/* One sequential write to the store. */
struct esnap_batch {
	struct esnap_sio sio;
	struct esnap_epoch *epoch;
	struct list_head saves;
	struct llist_node landed;
	u64 cow_block;
	unsigned long started;
	bool busy;
};

/*
 * The copy engine of a tracker: everything that the I/O path needs is
 * allocated with it.  Saves, store writes and releases have a queue each, with
 * its own rescuer, since a release can sleep in somebody's throttle and must
 * not stop the others.
 */
struct esnap_copy {
	struct workqueue_struct *save_wq;
	struct workqueue_struct *store_wq;
	struct workqueue_struct *release_wq;
	struct work_struct save_work;
	struct delayed_work store_work;
	struct work_struct release_work;
	struct delayed_work watchdog;

	/* Filled by the hook. */
	raw_spinlock_t held_lock;
	struct bio_list held;
	/* Held and not yet submitted or ended. */
	atomic_t nr_held;
	/* Only the save worker's. */
	struct bio_list ready;

	/* Protects the list below. */
	spinlock_t release_lock;
	struct bio_list release;

	struct llist_head read_done;
	struct llist_head landed;
	struct esnap_batch batches[ESNAP_NR_BATCHES];
	/* Write what there is, however little. */
	bool flush;

	struct bio_set read_bios;
	mempool_t save_pool;
	/* Protects the list below. */
	spinlock_t page_lock;
	struct list_head free_pages;
	u32 nr_free_pages;
	/* In use. */
	atomic_t nr_pages;
	/* Something was freed or has ended. */
	wait_queue_head_t wait;
};

/* Once per module. */
int esnap_copy_module_init(void);
void esnap_copy_module_exit(void);

/* May sleep.  The exit wants all epochs unpublished and drained. */
int esnap_copy_init(struct esnap_tracker *t);
void esnap_copy_exit(struct esnap_tracker *t);

/* Takes the bio; it is submitted or ended later.  Any context but NMI. */
void esnap_copy_hold(struct esnap_tracker *t, struct bio *bio);

/* Look again at what is held: the state has changed.  Any context. */
void esnap_copy_kick(struct esnap_tracker *t);

/* Waits until no worker uses an epoch that is no longer published.  Sleeps. */
void esnap_copy_sync(struct esnap_tracker *t);

/* Waits until no bio is held; the state must let them go.  Sleeps. */
void esnap_copy_wait_held(struct esnap_tracker *t);

/* Waits until all that was saved has landed (or was dropped).  Sleeps. */
void esnap_copy_drain(struct esnap_epoch *ep);

/* Waits until no read for a save is under way; none must begin.  Sleeps. */
void esnap_copy_wait_reads(struct esnap_epoch *ep);

/*
 * The save that has @block's old content in memory, with a reference, or NULL:
 * then it is in the store, if the block was saved.  Process context.
 */
struct esnap_save *esnap_save_find(struct esnap_epoch *ep, u64 block);
struct page *esnap_save_page(struct esnap_save *save, u64 block);
void esnap_save_put(struct esnap_save *save);

#endif /* ESNAP_COPY_H */
