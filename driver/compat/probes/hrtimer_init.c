// SPDX-License-Identifier: GPL-2.0-only
/* Until 9779489a31d7 (6.15): a timer is made, and its function is set. */
#include <linux/module.h>
#include <linux/hrtimer.h>

void probe(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *));
void probe(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *))
{
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	timer->function = function;
}
MODULE_LICENSE("GPL");
