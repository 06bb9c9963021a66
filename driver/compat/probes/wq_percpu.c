// SPDX-License-Identifier: GPL-2.0-only
/* 930c2ea566af (6.17): WQ_PERCPU asks for what was the default. */
#include <linux/module.h>
#include <linux/workqueue.h>

unsigned int probe(void);
unsigned int probe(void)
{
	return WQ_PERCPU;
}
MODULE_LICENSE("GPL");
