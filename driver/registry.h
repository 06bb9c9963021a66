/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_REGISTRY_H
#define ESNAP_REGISTRY_H

#include <linux/types.h>

struct bio;
struct block_device;
struct esnap_tracker;

/* The table of minors.  May sleep. */
int esnap_registry_init(void);
void esnap_registry_exit(void);

/* The tracker of a minor below the maximum, or NULL.  Outer or inner lock. */
struct esnap_tracker *esnap_registry_get(unsigned int minor);

/* Outer and inner lock. */
void esnap_registry_set(unsigned int minor, struct esnap_tracker *t);

/*
 * The tracker of a block device, or NULL; one that has failed and ended, or that
 * is not verified, does not count.  Outer or inner lock.
 */
struct esnap_tracker *esnap_registry_find(struct block_device *bdev);

/*
 * May a tracker be set up on the device of @t?  -EINVAL: another that is verified
 * and has not failed has it, or some of its sectors.  Outer lock; sleeps.
 */
int esnap_registry_claim(const struct esnap_tracker *t);

/*
 * What @t stores escapes the hook: an unverified tracker of the same sectors fails,
 * since it would miss that.  After a claim, before @t is published.  Outer lock.
 */
void esnap_registry_supersede(const struct esnap_tracker *t);

/* Makes the origin's disk visible to the hook, or hides it.  Outer lock. */
void esnap_registry_publish(struct esnap_tracker *t);
void esnap_registry_unpublish(struct esnap_tracker *t);

/*
 * Is this bio to be taken away from its submitter?  It has been put on a list
 * then.  Called by the hook in any context in which bios are submitted.
 */
bool esnap_registry_filter(struct bio *bio);

/* A tracker has failed: give back soon what it holds.  Any context but NMI. */
void esnap_registry_reap(void);

#endif /* ESNAP_REGISTRY_H */
