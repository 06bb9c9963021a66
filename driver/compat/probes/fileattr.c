// SPDX-License-Identifier: GPL-2.0-only
/* 4c5b47997521 (5.13): struct fileattr, by which a filesystem tells a file's flags; until 6.16. */
#include <linux/module.h>
#include <linux/fs.h>
#include <linux/fileattr.h>

u32 probe(struct dentry *dentry);
u32 probe(struct dentry *dentry)
{
	struct fileattr attr = {};

	d_inode(dentry)->i_op->fileattr_get(dentry, &attr);
	return attr.flags;
}
MODULE_LICENSE("GPL");
