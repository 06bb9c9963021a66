/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_COPY_H
#define ESNAP_COPY_H

#include <linux/bio.h>
#include <linux/llist.h>
#include <linux/workqueue.h>

#include "esnap.h"

struct esnap_epoch;
struct esnap_tracker;

/* Of the queues for saves, store writes and releases. */
#define ESNAP_WORKER_FLAGS (WQ_MEM_RECLAIM | WQ_HIGHPRI | ESNAP_WQ_PERCPU)

/*
 * The copy engine of a tracker: everything that the I/O path needs is
 * allocated with it.  Saves, store writes and releases have a queue each, with
 * its own rescuer, since a release can sleep in somebody's throttle and must
 * not stop the others.
 */
struct esnap_copy {
	struct workqueue_struct *save_wq;
	struct workqueue_struct *release_wq;
	struct work_struct save_work;
	struct work_struct release_work;

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
	struct bio_set read_bios;
	/* Something was freed or has ended. */
	wait_queue_head_t wait;
};

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

#endif /* ESNAP_COPY_H */
