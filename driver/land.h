/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_LAND_H
#define ESNAP_LAND_H

#include <linux/llist.h>
#include <linux/workqueue.h>

#include "store.h"

struct esnap_epoch;
struct esnap_save;
struct esnap_tracker;

#define ESNAP_NR_BATCHES 8

/* One sequential write to the store. */
struct esnap_batch {
	struct esnap_sio sio;
	struct esnap_epoch *epoch;
	struct list_head saves;
	struct llist_node landed;
	u64 cow_block;
	unsigned long started;
	bool busy;
};

/* The store worker of a tracker, its watchdog, and all that they need. */
struct esnap_land {
	struct workqueue_struct *wq;
	struct delayed_work work;
	struct delayed_work watchdog;
	struct llist_head landed;
	struct esnap_batch batches[ESNAP_NR_BATCHES];
	/* Write what there is, however little. */
	bool flush;
};

/* What all trackers have in common.  Both may sleep. */
int esnap_land_module_init(void);
void esnap_land_module_exit(void);

/* May sleep.  The exit wants all epochs unpublished and drained. */
int esnap_land_init(struct esnap_tracker *t);
void esnap_land_exit(struct esnap_tracker *t);

/* Takes over a save whose read has ended well.  Process context. */
void esnap_land_add(struct esnap_save *save);

/* A read or a write for the snapshot has begun: it must end in time.  Any context. */
void esnap_land_watch(struct esnap_tracker *t);

/* Write what there is, however little.  Any context. */
void esnap_land_flush(struct esnap_tracker *t);

/* Waits until the worker does not use an epoch that is no longer published.  Sleeps. */
void esnap_land_sync(struct esnap_tracker *t);

#endif /* ESNAP_LAND_H */
