// SPDX-License-Identifier: GPL-2.0-only
/* The control device: copy in, check, call, copy out. */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ctl.h"
#include "registry.h"
#include "tracker.h"

/* NULL: EINVAL; unreadable: EFAULT; longer than 4096 with its NUL: EINVAL. */
static char *get_path(u64 user)
{
	const char __user *from = u64_to_user_ptr(user);
	char *path;
	long n;

	if (!from)
		return ERR_PTR(-EINVAL);
	path = kmalloc(ELASTIO_SNAP_PATH_MAX, GFP_KERNEL);
	if (!path)
		return ERR_PTR(-ENOMEM);
	n = strncpy_from_user(path, from, ELASTIO_SNAP_PATH_MAX);
	if (n >= 0 && n < ELASTIO_SNAP_PATH_MAX)
		return path;
	kfree(path);
	return ERR_PTR(n < 0 ? n : -EINVAL);
}

static int get_paths(u64 bdev_user, u64 cow_user, char **bdev, char **cow)
{
	*bdev = get_path(bdev_user);
	if (IS_ERR(*bdev))
		return PTR_ERR(*bdev);
	*cow = get_path(cow_user);
	if (IS_ERR(*cow)) {
		kfree(*bdev);
		return PTR_ERR(*cow);
	}
	return 0;
}

static long ctl_setup(void __user *arg)
{
	struct elastio_snap_setup_params params;
	struct esnap_setup setup = {};
	char *bdev, *cow;
	long err;

	if (copy_from_user(&params, arg, sizeof(params)))
		return -EFAULT;
	err = get_paths(params.bdev, params.cow, &bdev, &cow);
	if (err)
		return err;
	setup.bdev = bdev;
	setup.cow = cow;
	setup.cow_size_mib = params.cow_size_mib;
	setup.cache_size = params.cache_size;
	setup.minor = params.minor;
	setup.ignore_errors = params.ignore_errors;
	err = esnap_setup(&setup);
	kfree(bdev);
	kfree(cow);
	return err;
}

static long ctl_reload(void __user *arg, bool snapshot)
{
	struct elastio_snap_reload_params params;
	struct esnap_reload reload = { .snapshot = snapshot };
	char *bdev, *cow;
	long err;

	if (copy_from_user(&params, arg, sizeof(params)))
		return -EFAULT;
	err = get_paths(params.bdev, params.cow, &bdev, &cow);
	if (err)
		return err;
	reload.bdev = bdev;
	reload.cow = cow;
	reload.cache_size = params.cache_size;
	reload.minor = params.minor;
	reload.ignore_errors = params.ignore_errors;
	err = esnap_reload(&reload);
	kfree(bdev);
	kfree(cow);
	return err;
}

static long ctl_transition_snap(void __user *arg)
{
	struct elastio_snap_transition_params params;
	char *cow;
	long err;

	if (copy_from_user(&params, arg, sizeof(params)))
		return -EFAULT;
	cow = get_path(params.cow);
	if (IS_ERR(cow))
		return PTR_ERR(cow);
	err = esnap_transition_snap(params.minor, cow, params.cow_size_mib);
	kfree(cow);
	return err;
}

static long ctl_reconfigure(void __user *arg)
{
	struct elastio_snap_reconfigure_params params;

	if (copy_from_user(&params, arg, sizeof(params)))
		return -EFAULT;
	return esnap_reconfigure(params.minor, params.cache_size);
}

static long ctl_minor(void __user *arg, int (*call)(unsigned int minor))
{
	u32 minor;

	if (copy_from_user(&minor, arg, sizeof(minor)))
		return -EFAULT;
	return call(minor);
}

/* @size: what the caller's structure has, by the ioctl's number. */
static long ctl_info(void __user *arg, size_t size)
{
	struct elastio_snap_info *info = kmalloc(sizeof(*info), GFP_KERNEL);
	struct esnap_tracker *t;
	long err = 0;

	if (!info)
		return -ENOMEM;
	if (copy_from_user(info, arg, size)) {
		err = -EFAULT;
		goto out;
	}
	if (info->minor >= esnap_max_devices) {
		err = -EINVAL;
		goto out;
	}
	mutex_lock(&esnap_inner_lock);
	t = esnap_registry_get(info->minor);
	if (t)
		esnap_tracker_info(t, info);
	else
		err = -ENOENT;
	mutex_unlock(&esnap_inner_lock);
	if (!err && copy_to_user(arg, info, size))
		err = -EFAULT;
out:
	kfree(info);
	return err;
}

static long ctl_get_free(void __user *arg)
{
	s32 minor;

	mutex_lock(&esnap_inner_lock);
	for (minor = 0; minor < esnap_max_devices; minor++)
		if (!esnap_registry_get(minor))
			break;
	mutex_unlock(&esnap_inner_lock);
	if (minor == esnap_max_devices)
		return -ENOENT;
	return copy_to_user(arg, &minor, sizeof(minor)) ? -EFAULT : 0;
}

static long ctl_version(void __user *arg)
{
	struct elastio_snap_version version = {
		.extension = ELASTIO_SNAP_EXTENSION_VERSION,
		.capabilities = ELASTIO_SNAP_CAP_CHANGES,
		.module = ESNAP_VERSION,
	};

	return copy_to_user(arg, &version, sizeof(version)) ? -EFAULT : 0;
}

/* The caller's memory is touched outside of all locks: a fault can take long. */
static long ctl_changes(void __user *arg)
{
	struct elastio_snap_changes_params params;
	struct elastio_snap_changed *extents;
	long err;

	if (copy_from_user(&params, arg, sizeof(params)))
		return -EFAULT;
	if (!params.max_extents || params.max_extents > ELASTIO_SNAP_CHANGES_MAX)
		return -EINVAL;
	extents = kvmalloc_array(params.max_extents, sizeof(*extents), GFP_KERNEL);
	if (!extents)
		return -ENOMEM;
	err = esnap_tracker_changes(&params, extents);
	if (!err && (copy_to_user(u64_to_user_ptr(params.extents), extents,
				  params.nr_extents * sizeof(*extents)) ||
		     copy_to_user(arg, &params, sizeof(params))))
		err = -EFAULT;
	kvfree(extents);
	return err;
}

static long ctl_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	void __user *arg = (void __user *)user;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (cmd) {
	case ELASTIO_SNAP_SETUP_SNAP:
		return ctl_setup(arg);
	case ELASTIO_SNAP_RELOAD_SNAP:
		return ctl_reload(arg, true);
	case ELASTIO_SNAP_RELOAD_INC:
		return ctl_reload(arg, false);
	case ELASTIO_SNAP_DESTROY:
		return ctl_minor(arg, esnap_destroy);
	case ELASTIO_SNAP_TRANSITION_INC:
		return ctl_minor(arg, esnap_transition_inc);
	case ELASTIO_SNAP_TRANSITION_SNAP:
		return ctl_transition_snap(arg);
	case ELASTIO_SNAP_RECONFIGURE:
		return ctl_reconfigure(arg);
	case ELASTIO_SNAP_INFO:
		return ctl_info(arg, sizeof(struct elastio_snap_info));
	case ELASTIO_SNAP_INFO_OLD:
		return ctl_info(arg, ELASTIO_SNAP_INFO_OLD_SIZE);
	case ELASTIO_SNAP_GET_FREE:
		return ctl_get_free(arg);
	case ELASTIO_SNAP_VERSION:
		return ctl_version(arg);
	case ELASTIO_SNAP_CHANGES:
		return ctl_changes(arg);
	}
	return -EINVAL;
}

static const struct file_operations ctl_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.llseek = noop_llseek,
	.unlocked_ioctl = ctl_ioctl,
	.compat_ioctl = ctl_ioctl,
};

static struct miscdevice ctl_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = ELASTIO_SNAP_CTL_NAME,
	.fops = &ctl_fops,
	.mode = 0600,
};

int esnap_ctl_init(void)
{
	return misc_register(&ctl_device);
}

void esnap_ctl_exit(void)
{
	misc_deregister(&ctl_device);
}
