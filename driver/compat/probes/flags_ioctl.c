// SPDX-License-Identifier: GPL-2.0-only
/* Until 4c5b47997521 (5.13): a filesystem tells a file's flags by its ioctls only. */
#include <linux/module.h>
#include <linux/fs.h>

long probe(struct file *file, struct inode *inode);
long probe(struct file *file, struct inode *inode)
{
	struct fsxattr attr;

	simple_fill_fsxattr(&attr, 0);
	vfs_ioc_fssetxattr_check(inode, &attr, &attr);
	return file->f_op->unlocked_ioctl(file, FS_IOC_GETFLAGS, 0);
}
MODULE_LICENSE("GPL");
