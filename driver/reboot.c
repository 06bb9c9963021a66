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

static DECLARE_COMPLETION(closed);

static void close_one(struct esnap_tracker *t)
{
	struct super_block *sb = esnap_tracker_hold(t);
	struct esnap_epoch *ep = t->current_epoch;

	if (sb)
		esnap_seal_done(ep, esnap_seal(ep) ? ESNAP_OPEN : ESNAP_CLEAN);
	esnap_tracker_unhold(t, sb);
}

static void close_all(struct work_struct *work)
{
	unsigned int i;

	mutex_lock(&esnap_outer_lock);
	for (i = 0; i < esnap_max_devices; i++)
		if (esnap_registry_get(i))
			close_one(esnap_registry_get(i));
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
