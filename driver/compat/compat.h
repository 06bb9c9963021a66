/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One modern API for the rest of the module, whatever the kernel.  Each choice
 * rests on a probe that was compiled against this kernel (compat/probes);
 * where none of the known forms fits, the build stops.
 */
#ifndef ESNAP_COMPAT_H
#define ESNAP_COMPAT_H

#include <linux/highmem.h>
#include <linux/hrtimer.h>
#include <linux/lockdep.h>
#include <linux/workqueue.h>

#include "bdev.h"
#include "bio.h"
#include "fs.h"
#include "ftrace.h"

/* Without high memory every page has an address. */
#if !defined(HAVE_KMAP_LOCAL) && !defined(CONFIG_HIGHMEM)
#define kmap_local_page(page) page_address(page)
#define kunmap_local(address) do { } while (0)
#elif !defined(HAVE_KMAP_LOCAL)
#error "no known form of: kmap_local"
#endif

#if !defined(lockdep_assert) && defined(CONFIG_LOCKDEP)
#define lockdep_assert(condition) WARN_ON(debug_locks && !(condition))
#elif !defined(lockdep_assert)
#define lockdep_assert(condition) do { } while (0)
#endif

static inline void esnap_hrtimer_init(struct hrtimer *timer,
				      enum hrtimer_restart (*function)(struct hrtimer *))
{
#if defined(HAVE_HRTIMER_SETUP)
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#elif defined(HAVE_HRTIMER_INIT)
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	timer->function = function;
#else
#error "no known form of: hrtimer_setup, hrtimer_init"
#endif
}

#if defined(HAVE_WQ_PERCPU)
#define ESNAP_WQ_PERCPU WQ_PERCPU
#else
#define ESNAP_WQ_PERCPU 0
#endif

#endif /* ESNAP_COMPAT_H */
