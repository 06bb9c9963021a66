/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_READ_H
#define ESNAP_READ_H

#include <linux/bio.h>
#include <linux/hrtimer.h>
#include <linux/llist.h>

struct esnap_epoch;

/* The reads of old content of a tracker. */
struct esnap_reads {
	struct bio_set bios;
	/* Have ended; whoever saves goes on with them. */
	struct llist_head done;
	/* Gives them to the worker at last; armed or about to look at the list. */
	struct hrtimer late;
	atomic_t late_armed;
	/* Since when there is something on the list. */
	ktime_t oldest;
};

/*
 * Gets the unsaved ones of the blocks first..last read for @bio.  0: all are
 * saved; 1: the bio waits for a read; -EAGAIN: it cannot wait for memory, which
 * is to be had later; other errors: the snapshot's end.  Under the save lock.
 */
int esnap_read_unsaved(struct esnap_epoch *ep, struct bio *bio, u64 first, u64 last);

/*
 * Does a read of one of the blocks first..last still go on?  Then the bio waits
 * for it.  Under the save lock.
 */
bool esnap_read_await(struct esnap_epoch *ep, struct bio *bio, u64 first, u64 last);

/* May sleep.  No read may be under way when they are stopped. */
int esnap_reads_init(struct esnap_reads *r);
void esnap_reads_stop(struct esnap_reads *r);
void esnap_reads_exit(struct esnap_reads *r);

#endif /* ESNAP_READ_H */
