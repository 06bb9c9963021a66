// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bios that are held in the plug of who writes.
 *
 * When the plug ends, the one who writes saves for its own bios what the worker
 * would save, and lets them go itself if the old content is there by then.  It
 * is a place where it might as well wait for the submission of these bios, and no
 * other thread has to be switched to.  When it goes to sleep instead, or somebody
 * saves already, or others have something in the plug, too, or there is more to be
 * waited for, the worker gets them.
 *
 * Such a plug is a frame of ours (hook.h) and a user of the tracker, from before
 * the hook's RCU section ends until all is done.
 */
#include <linux/blkdev.h>
#include <linux/preempt.h>
#include <linux/slab.h>

#include "hook.h"
#include "plug.h"
#include "tracker.h"

/* So many wait for the end of a plug at most. */
#define PLUG_BIOS 64

struct plugged {
	/* The block layer's: it allocates and zeroes all, we free it. */
	struct blk_plug_cb cb;
	struct bio_list bios;
	unsigned int nr;
	bool counted;
	/* No callback of the plug is older. */
	bool oldest;
};

/*
 * The block layer takes all callbacks off the plug, calls the newest first, and
 * while one sleeps nobody can call those behind it: md's, say, with writes that a
 * barrier waits for which our read would wait for.  So none may be left, and none
 * may have been added since; nor may there be a bio that is being submitted, within
 * which a read would not even begin.
 */
static bool may_sleep_here(const struct plugged *p)
{
	return p->oldest && !current->bio_list && current->plug &&
	       list_empty(&current->plug->cb_list);
}

static void unplug(struct blk_plug_cb *cb, bool from_schedule)
{
	struct plugged *p = container_of(cb, struct plugged, cb);
	struct esnap_tracker *t = cb->data;
	bool own = !from_schedule && may_sleep_here(p);
	struct bio_list bios = p->bios;

	kfree(p);
	if (!own || !esnap_copy_run_own(t, &bios))
		esnap_copy_queue(t, &bios);
	/* With its last plug the tracker may go; esnap_copy_exit() waits. */
	rcu_read_lock();
	if (atomic_dec_and_test(&t->copy.nr_plugs))
		esnap_copy_wake(&t->copy);
	rcu_read_unlock();
	esnap_hook_end_frame();
}

bool esnap_plug_hold(struct esnap_tracker *t, struct bio *bio)
{
	struct blk_plug_cb *cb;
	struct plugged *p;

	/*
	 * An interrupt has nothing to do with the plug of the task.  A real-time
	 * kernel may not allocate where preemption is off, as ftrace's can be.
	 */
	if (!in_task() || (IS_ENABLED(CONFIG_PREEMPT_RT) && !preemptible()))
		return false;
	cb = blk_check_plugged(unplug, t, sizeof(*p));
	if (!cb)
		return false;
	p = container_of(cb, struct plugged, cb);
	if (!p->counted) {
		p->counted = true;
		p->oldest = list_is_singular(&current->plug->cb_list);
		atomic_inc(&t->copy.nr_plugs);
		esnap_hook_begin_frame();
	}
	bio_list_add(&p->bios, bio);
	if (++p->nr == PLUG_BIOS) {
		esnap_copy_queue(t, &p->bios);
		bio_list_init(&p->bios);
		p->nr = 0;
	}
	return true;
}
