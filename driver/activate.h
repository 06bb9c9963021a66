/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_ACTIVATE_H
#define ESNAP_ACTIVATE_H

struct esnap_tracker;
struct super_block;

/*
 * The filesystem of a dormant or unverified tracker has come: takes the tracker
 * up again, or fails it, or leaves it as it was when the filesystem was mounted
 * without recovery.  The tracker is MOVING, and given back.  The caller holds
 * s_umount, or the superblock active; sleeps, but freezes, opens and closes
 * nothing.
 */
void esnap_activate(struct esnap_tracker *t, struct super_block *sb);

#endif /* ESNAP_ACTIVATE_H */
