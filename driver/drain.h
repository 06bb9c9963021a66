/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_DRAIN_H
#define ESNAP_DRAIN_H

struct block_device;

/*
 * Returns when the writes to @bdev that had passed the hook have ended.  Not for
 * every disk: see drain.c.  -ETIMEDOUT: its disk has not answered something in time;
 * a mapped device is waited for.  Sleeps.
 */
int esnap_drain(struct block_device *bdev);

#endif /* ESNAP_DRAIN_H */
