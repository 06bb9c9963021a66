// SPDX-License-Identifier: GPL-2.0-only
/* What the end of a filesystem means for its tracker. */
#include <linux/fs.h>

#include "mount.h"
#include "registry.h"
#include "tracker.h"

/*
 * The pins must be gone before the filesystem looks for busy inodes.  No ioctl
 * can be at work on this COW file: it would hold the superblock active.
 */
static void let_go(struct esnap_epoch *ep)
{
	esnap_fail(ep, -ENODEV, "its filesystem was unmounted");
	esnap_store_close(&ep->store);
	esnap_cowfile_unpin(&ep->cowfile);
}

void esnap_mount_before_shutdown(struct super_block *sb)
{
	unsigned int i;

	mutex_lock(&esnap_inner_lock);
	for (i = 0; i < esnap_max_devices; i++) {
		struct esnap_tracker *t = esnap_registry_get(i);
		struct esnap_epoch *ep = t ? t->current_epoch : NULL;

		if (ep && ep->cowfile.dentry && ep->cowfile.dentry->d_sb == sb)
			let_go(ep);
	}
	mutex_unlock(&esnap_inner_lock);
}
