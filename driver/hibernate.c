// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is written after the machine's memory was saved is not known to the memory
 * that comes back: what a filesystem writes back meanwhile, the saved memory
 * itself in a swap file, and what another system does with a disk that nobody has
 * mounted.  So a tracker that is at work fails before, while its filesystem can
 * still be used, and its COW file does not say that it is complete; one that
 * waits for its filesystem is not taken up again.
 */
#include <linux/completion.h>
#include <linux/notifier.h>
#include <linux/suspend.h>
#include <linux/workqueue.h>

#include "hibernate.h"
#include "registry.h"
#include "tracker.h"

/* As long as the kernel waits for tasks to freeze; who does not answer ends the attempt. */
#define LIMIT (20 * HZ)

/* Set before the outer lock is taken to end the trackers: who has the lock later finds it. */
static bool hibernating;
static DECLARE_COMPLETION(given_up);

bool esnap_is_hibernating(void)
{
	lockdep_assert_held(&esnap_outer_lock);
	return READ_ONCE(hibernating);
}

/*
 * Reaped here: a worker could delete the COW file after the memory was saved, and
 * the memory that comes back would not know of that either.
 */
static void give_up(struct esnap_tracker *t)
{
	struct super_block *sb = esnap_tracker_hold(t);

	if (sb)
		esnap_fail(t->current_epoch, -ESTALE, "the machine hibernates");
	else
		t->stale = true;
	esnap_tracker_unhold(t, sb);
	esnap_tracker_reap(t);
}

static void give_up_all(struct work_struct *work)
{
	unsigned int i;

	mutex_lock(&esnap_outer_lock);
	/* Who has refused meanwhile lets the others go on. */
	for (i = 0; i < esnap_max_devices && READ_ONCE(hibernating); i++)
		if (esnap_registry_get(i))
			give_up(esnap_registry_get(i));
	/* Who left early must not end the wait of who tries again: another run follows for that. */
	if (i == esnap_max_devices)
		complete(&given_up);
	mutex_unlock(&esnap_outer_lock);
}

static DECLARE_WORK(give_up_work, give_up_all);

static int prepare(void)
{
	WRITE_ONCE(hibernating, true);
	reinit_completion(&given_up);
	schedule_work(&give_up_work);
	if (wait_for_completion_timeout(&given_up, LIMIT))
		return NOTIFY_DONE;
	/* No other event follows for who has refused. */
	WRITE_ONCE(hibernating, false);
	pr_err("a tracked device does not answer: the machine cannot hibernate\n");
	return notifier_from_errno(-EBUSY);
}

static int on_power_management(struct notifier_block *nb, unsigned long event, void *data)
{
	if (event == PM_HIBERNATION_PREPARE)
		return prepare();
	if (event == PM_POST_HIBERNATION)
		WRITE_ONCE(hibernating, false);
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = on_power_management };

int esnap_hibernate_init(void)
{
	return register_pm_notifier(&notifier);
}

void esnap_hibernate_exit(void)
{
	unregister_pm_notifier(&notifier);
	flush_work(&give_up_work);
}
