/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_PLUG_H
#define ESNAP_PLUG_H

#include <linux/bio.h>

struct esnap_tracker;

/*
 * Keeps a held bio until the plug of who writes ends.  False: it has none, or
 * there is no memory for that.  Called by the hook under RCU.
 */
bool esnap_plug_hold(struct esnap_tracker *t, struct bio *bio);

#endif /* ESNAP_PLUG_H */
