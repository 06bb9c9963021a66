/* SPDX-License-Identifier: GPL-2.0-only */
/* Files and directories without a system call around them. */
#ifndef ESNAP_COMPAT_FS_H
#define ESNAP_COMPAT_FS_H

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/uaccess.h>
#if defined(HAVE_FILE_KATTR) || defined(HAVE_FILEATTR)
#include <linux/fileattr.h>
#endif

/* Is there the older way to mount a device, too? */
#if defined(HAVE_MOUNT_BDEV)
#define ESNAP_MOUNT_BDEV
#endif

/* With the parent's lock. */
static inline int esnap_unlink(struct inode *dir, struct dentry *dentry)
{
#if defined(HAVE_MNT_IDMAP)
	return vfs_unlink(&nop_mnt_idmap, dir, dentry, NULL);
#elif defined(HAVE_MNT_USERNS)
	return vfs_unlink(&init_user_ns, dir, dentry, NULL);
#elif defined(HAVE_MNT_PLAIN)
	return vfs_unlink(dir, dentry, NULL);
#else
#error "no known form of: mnt_idmap, mnt_userns, mnt_plain"
#endif
}

/* With the inode's lock. */
static inline int esnap_change_attributes(struct dentry *dentry, struct iattr *attr)
{
#if defined(HAVE_MNT_IDMAP)
	return notify_change(&nop_mnt_idmap, dentry, attr, NULL);
#elif defined(HAVE_MNT_USERNS)
	return notify_change(&init_user_ns, dentry, attr, NULL);
#else
	return notify_change(dentry, attr, NULL);
#endif
}

/* What the filesystem keeps of a file beside its inode: FS_*_FL and FS_XFLAG_*. */
struct esnap_file_flags {
	u32 flags;
	u32 xflags;
};

/*
 * @file is open, or NULL in a mount: there are filesystems that tell nothing
 * without an open file, so that both fields are 0.  That is enough, since to
 * change them a filesystem must be mounted for writing, which its fingerprint
 * shows, or the driver was there when the file was made.
 */
static inline int esnap_get_file_flags(struct dentry *dentry, struct file *file,
				       struct esnap_file_flags *f)
{
	*f = (struct esnap_file_flags){};
#if defined(HAVE_FILE_KATTR) || defined(HAVE_FILEATTR)
	{
#if defined(HAVE_FILE_KATTR)
		struct file_kattr attr = {};
#else
		struct fileattr attr = {};
#endif
		if (d_inode(dentry)->i_op->fileattr_get)
			d_inode(dentry)->i_op->fileattr_get(dentry, &attr);
		f->flags = attr.flags;
		f->xflags = attr.fsx_xflags;
	}
	return 0;
#elif defined(HAVE_FLAGS_IOCTL)
	{
		struct fsxattr __user *x;
		unsigned long scratch;
		int err = 0;

		if (!file || !file->f_op->unlocked_ioctl)
			return 0;
		scratch = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, 0);
		if (IS_ERR_VALUE(scratch))
			return scratch;
		x = (struct fsxattr __user *)scratch;
		/* What a filesystem does not know, its files do not have. */
		if (!file->f_op->unlocked_ioctl(file, FS_IOC_GETFLAGS, scratch) &&
		    get_user(f->flags, (u32 __user *)scratch))
			err = -EFAULT;
		if (!file->f_op->unlocked_ioctl(file, FS_IOC_FSGETXATTR, scratch) &&
		    get_user(f->xflags, &x->fsx_xflags))
			err = -EFAULT;
		vm_munmap(scratch, PAGE_SIZE);
		return err;
	}
#else
#error "no known form of: file_kattr, fileattr, flags_ioctl"
#endif
}

/* What is called @name in @dir, or -ENOENT; by the caller's rights, without a mount. */
static inline struct dentry *esnap_lookup_child(struct dentry *dir, const char *name, int len)
{
#if defined(HAVE_LOOKUP_NOPERM)
	return lookup_noperm_positive_unlocked(&QSTR_LEN(name, len), dir);
#elif defined(HAVE_LOOKUP_POSITIVE)
	return lookup_positive_unlocked(name, dir, len);
#else
#error "no known form of: lookup_noperm, lookup_positive"
#endif
}

#endif /* ESNAP_COMPAT_FS_H */
