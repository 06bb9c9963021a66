// SPDX-License-Identifier: GPL-2.0-only
/*
 * When the machine goes down, its root filesystem is not unmounted: it is
 * remounted read-only at best.  The COW files that are still in use are closed
 * here; a write that comes later makes its file unclean again, as always.
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/workqueue.h>

#include "reboot.h"
#include "registry.h"
#include "seal.h"
#include "tracker.h"

/* A device that does not answer must not hold up the reboot for longer. */
#define LIMIT (10 * HZ)

/* Devices are not stacked deeper. */
#define PASSES 8

static DECLARE_COMPLETION(closed);

/* True: it has not been closed before, or had to be opened since. */
static bool close_one(struct esnap_tracker *t)
{
	struct super_block *sb = esnap_tracker_hold(t);
	struct esnap_epoch *ep = t->current_epoch;
	bool open = sb && !READ_ONCE(ep->error) && READ_ONCE(ep->seal) != ESNAP_CLEAN;

	if (open)
		esnap_seal_done(ep, esnap_seal(ep) ? ESNAP_OPEN : ESNAP_CLEAN);
	esnap_tracker_unhold(t, sb);
	return open;
}

/*
 * To close a file is a write to the disks below, whose files may have been closed:
 * so it is done until none is open.
 */
static void close_all(struct work_struct *work)
{
	unsigned int pass, i;
	bool open = true;

	mutex_lock(&esnap_outer_lock);
	for (pass = 0; open && pass < PASSES; pass++) {
		open = false;
		for (i = 0; i < esnap_max_devices; i++)
			if (esnap_registry_get(i))
				open |= close_one(esnap_registry_get(i));
	}
	mutex_unlock(&esnap_outer_lock);
	complete(&closed);
}

static DECLARE_WORK(close_work, close_all);

static int on_reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	reinit_completion(&closed);
	schedule_work(&close_work);
	if (!wait_for_completion_timeout(&closed, LIMIT))
		pr_err("a COW file could not be closed in time: it needs a new snapshot\n");
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = on_reboot };

int esnap_reboot_init(void)
{
	return register_reboot_notifier(&notifier);
}

void esnap_reboot_exit(void)
{
	unregister_reboot_notifier(&notifier);
	flush_work(&close_work);
}
