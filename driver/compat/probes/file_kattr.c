// SPDX-License-Identifier: GPL-2.0-only
/* ca115d7e7546 (6.17): struct file_kattr, formerly struct fileattr. */
#include <linux/module.h>
#include <linux/fs.h>
#include <linux/fileattr.h>

u32 probe(struct dentry *dentry);
u32 probe(struct dentry *dentry)
{
	struct file_kattr attr = {};

	d_inode(dentry)->i_op->fileattr_get(dentry, &attr);
	return attr.flags;
}
MODULE_LICENSE("GPL");
