// SPDX-License-Identifier: GPL-2.0-only
/* 908a1d775422 (6.13): a timer is made with its function. */
#include <linux/module.h>
#include <linux/hrtimer.h>

void probe(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *));
void probe(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *))
{
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
}
MODULE_LICENSE("GPL");
