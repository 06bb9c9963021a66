// SPDX-License-Identifier: GPL-2.0-only
/* abf08576afe3 (6.3): the VFS takes struct mnt_idmap. */
#include <linux/module.h>
#include <linux/fs.h>
#include <linux/mount.h>

int probe(struct dentry *dentry, struct iattr *attr);
int probe(struct dentry *dentry, struct iattr *attr)
{
	return notify_change(&nop_mnt_idmap, dentry, attr, NULL);
}
MODULE_LICENSE("GPL");
