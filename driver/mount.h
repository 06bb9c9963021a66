/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_MOUNT_H
#define ESNAP_MOUNT_H

struct super_block;

/*
 * A filesystem ends: its last mount is gone.  Called before the filesystem's
 * own shutdown, with s_umount held; sleeps.
 */
void esnap_mount_before_shutdown(struct super_block *sb);

/*
 * The filesystem has written what it had to write, and still claims its device.
 * Sleeps until our I/O on it has ended.
 */
void esnap_mount_after_shutdown(struct super_block *sb);

/* A filesystem on a device has come; s_umount is held, and nobody uses it yet. */
void esnap_mount_begun(struct super_block *sb);

#endif /* ESNAP_MOUNT_H */
