/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_IMAGE_H
#define ESNAP_IMAGE_H

#include <linux/types.h>

struct esnap_epoch;
struct esnap_image;

/* Once per module: the major number and the caches. */
int esnap_image_module_init(void);
void esnap_image_module_exit(void);

/* The image device of an epoch, not announced yet.  Sleeps. */
struct esnap_image *esnap_image_create(struct esnap_epoch *ep);

/* Makes it appear as /dev/elastio-snap<minor>.  Sleeps. */
int esnap_image_announce(struct esnap_image *img);

/* Waits a moment for udev's probe to close it; false: it is still open. */
bool esnap_image_wait_closed(struct esnap_image *img);

/* As the former, and nobody can open it any more.  -EBUSY: it is open. */
int esnap_image_claim(struct esnap_image *img);

/*
 * Waits until the reads that are under way have ended.  The epoch has failed or
 * is parked, so that those to come do not touch the origin.  Sleeps.
 */
void esnap_image_quiesce(struct esnap_image *img);

/* Takes the device away and frees it; it is claimed, or was not announced. */
void esnap_image_remove(struct esnap_image *img);

#endif /* ESNAP_IMAGE_H */
