// SPDX-License-Identifier: GPL-2.0-only
/* In whose hands a tracker is: an ioctl's or a hook's. */
#include <linux/fs.h>
#include <linux/wait.h>

#include "registry.h"
#include "tracker.h"

/* What they protect stands in tracker.h. */
DEFINE_MUTEX(esnap_outer_lock);
DEFINE_MUTEX(esnap_inner_lock); /* inside the outer */

/* Counts up whenever a tracker changes hands. */
static atomic_t handovers = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(handover);

void esnap_tracker_announce_handover(void)
{
	atomic_inc(&handovers);
	wake_up_all(&handover);
}

/* Under the inner lock: may an ioctl have it now? */
static bool try_hold(struct esnap_tracker *t, struct super_block **sb)
{
	*sb = NULL;
	switch (t->phase) {
	case ESNAP_MOVING:
		return false;
	case ESNAP_ACTIVE:
		/* If it is ending, its hook is about to make this MOVING. */
		if (!atomic_inc_not_zero(&t->sb->s_active))
			return false;
		*sb = t->sb;
		return true;
	default:
		t->held = true;
		return true;
	}
}

struct super_block *esnap_tracker_hold(struct esnap_tracker *t)
{
	struct super_block *sb;
	bool ours;
	int seen;

	lockdep_assert_held(&esnap_outer_lock);
	for (;;) {
		seen = atomic_read(&handovers);
		mutex_lock(&esnap_inner_lock);
		ours = try_hold(t, &sb);
		mutex_unlock(&esnap_inner_lock);
		if (ours)
			return sb;
		wait_event(handover, atomic_read(&handovers) != seen);
	}
}

void esnap_tracker_unhold(struct esnap_tracker *t, struct super_block *sb)
{
	mutex_lock(&esnap_inner_lock);
	t->held = false;
	mutex_unlock(&esnap_inner_lock);
	esnap_tracker_announce_handover();
	if (sb)
		deactivate_super(sb);
}

struct esnap_tracker *esnap_tracker_take(bool (*want)(const struct esnap_tracker *t,
						      const struct super_block *sb),
					 const struct super_block *sb, unsigned int from)
{
	for (;;) {
		int seen = atomic_read(&handovers);
		struct esnap_tracker *t = NULL;
		bool ours = false;
		unsigned int i;

		mutex_lock(&esnap_inner_lock);
		for (i = from; i < esnap_max_devices; i++) {
			t = esnap_registry_get(i);
			if (t && want(t, sb))
				break;
			t = NULL;
		}
		ours = t && !t->held && t->phase != ESNAP_MOVING;
		if (ours)
			t->phase = ESNAP_MOVING;
		mutex_unlock(&esnap_inner_lock);
		if (ours || !t)
			return t;
		wait_event(handover, atomic_read(&handovers) != seen);
	}
}

void esnap_tracker_give(struct esnap_tracker *t, enum esnap_phase phase)
{
	mutex_lock(&esnap_inner_lock);
	t->phase = phase;
	mutex_unlock(&esnap_inner_lock);
	esnap_tracker_announce_handover();
}
