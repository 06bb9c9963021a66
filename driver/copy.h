/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_COPY_H
#define ESNAP_COPY_H

#include <linux/bio.h>
#include <linux/mutex.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "bitmap.h"
#include "esnap.h"
#include "read.h"
#include "save.h"

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
	/* Plugs with bios of this tracker. */
	atomic_t nr_plugs;

	/* Of whoever saves: the save worker, or who writes (plug.h). */
	struct mutex save_lock;
	/* The one who does; compared without the lock. */
	struct task_struct *saver;
	/* Not the worker; under the lock. */
	bool saves_own;
	/* Taken off the held list, in their order; under the lock. */
	struct bio_list ready;

	/* Protects the list below. */
	spinlock_t release_lock;
	struct bio_list release;

	struct esnap_reads reads;
	/* Something was freed or has ended. */
	wait_queue_head_t wait;
};

/* May sleep.  The exit wants all epochs unpublished and drained. */
int esnap_copy_init(struct esnap_tracker *t);
void esnap_copy_exit(struct esnap_tracker *t);

/* Takes the bio; it is submitted or ended later.  Any context but NMI. */
void esnap_copy_hold(struct esnap_tracker *t, struct bio *bio);

/* Hands bios that are held over to the worker.  Any context but NMI. */
void esnap_copy_queue(struct esnap_tracker *t, struct bio_list *bios);

/*
 * Does with the caller's own held bios what the workers would do.  False: nothing
 * was done; the worker must.  Called where the plug of the caller is being
 * flushed, when nothing waits in it any more but requests; sleeps where the
 * submission of the bios could.
 */
bool esnap_copy_run_own(struct esnap_tracker *t, struct bio_list *bios);

/*
 * With what to allocate what the worker can allocate, too: a program that saves for
 * itself must not be throttled by reclaim, which may wait for what it has locked.
 */
static inline gfp_t esnap_copy_gfp(const struct esnap_copy *c)
{
	return c->saves_own ? ESNAP_SAVE_GFP : ESNAP_BITMAP_GFP;
}

/* Look again at what is held: the state has changed.  Any context. */
void esnap_copy_kick(struct esnap_tracker *t);

/* Something was freed or has ended.  Any context. */
static inline void esnap_copy_wake(struct esnap_copy *c)
{
	/* Nearly always nobody waits; to find that out by the lock costs more. */
	if (wq_has_sleeper(&c->wait))
		wake_up_all(&c->wait);
}

/* Waits until nobody uses an epoch that is no longer published.  Sleeps. */
void esnap_copy_sync(struct esnap_tracker *t);

/* Waits until no bio is held; the state must let them go.  Sleeps. */
void esnap_copy_wait_held(struct esnap_tracker *t);

/* Waits until all that was saved has landed (or was dropped).  Sleeps. */
void esnap_copy_drain(struct esnap_epoch *ep);

/* Waits until no read for a save is under way; none must begin.  Sleeps. */
void esnap_copy_wait_reads(struct esnap_epoch *ep);

#endif /* ESNAP_COPY_H */
