// SPDX-License-Identifier: GPL-2.0-only
/* Load, unload, parameters. */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "ctl.h"
#include "esnap.h"
#include "hibernate.h"
#include "hook.h"
#include "image.h"
#include "proc.h"
#include "reboot.h"
#include "registry.h"
#include "save.h"
#include "tracker.h"

#define MAX_DEVICES 255
#define DEFAULT_DEVICES 24

/* A parameter that must lie between two bounds; a module with another does not load. */
static int set_between(const char *value, const struct kernel_param *param, unsigned long min,
		       unsigned long max)
{
	unsigned long number;
	int err = kstrtoul(value, 0, &number);

	if (!err && (number < min || number > max))
		err = -ERANGE;
	if (err) {
		pr_err("parameter %s: %s is not a number from %lu to %lu\n", param->name, value,
		       min, max);
		return -EINVAL;
	}
	WRITE_ONCE(*(unsigned int *)param->arg, number);
	return 0;
}

static int set_percentage(const char *value, const struct kernel_param *param)
{
	return set_between(value, param, 1, 100);
}

static int set_pending(const char *value, const struct kernel_param *param)
{
	return set_between(value, param, 1, 1 << 16);
}

static const struct kernel_param_ops percentage_ops = {
	.set = set_percentage,
	.get = param_get_uint,
};

static const struct kernel_param_ops pending_ops = {
	.set = set_pending,
	.get = param_get_uint,
};

unsigned long esnap_cache_default = 300UL << 20;
module_param_named(cow_max_memory_default, esnap_cache_default, ulong, 0);
MODULE_PARM_DESC(cow_max_memory_default, "default limit of an index cache in bytes");

unsigned int esnap_cow_percentage = 10;
module_param_cb(cow_fallocate_percentage_default, &percentage_ops, &esnap_cow_percentage, 0);
MODULE_PARM_DESC(cow_fallocate_percentage_default,
		 "default size of a COW file in percent of its origin, 1 to 100");

unsigned int esnap_max_devices = DEFAULT_DEVICES;
module_param_named(max_snap_devices, esnap_max_devices, uint, 0444);
MODULE_PARM_DESC(max_snap_devices, "number of minors, at most 255");

unsigned int esnap_pending_max_mib = 64;
module_param_cb(pending_max_mib, &pending_ops, &esnap_pending_max_mib, 0644);
MODULE_PARM_DESC(pending_max_mib,
		 "memory of a tracker for what is saved but not stored yet, in MiB, 1 to 65536");

int esnap_debug_level;
module_param_named(debug, esnap_debug_level, int, 0644);
MODULE_PARM_DESC(debug, "1: log more");

static int __init esnap_init(void)
{
	int err;

	if (!esnap_max_devices)
		esnap_max_devices = DEFAULT_DEVICES;
	esnap_max_devices = min_t(unsigned int, esnap_max_devices, MAX_DEVICES);

	err = esnap_registry_init();
	if (err)
		return err;
	err = esnap_save_module_init();
	if (err)
		goto err_registry;
	err = esnap_land_module_init();
	if (err)
		goto err_save;
	err = esnap_image_module_init();
	if (err)
		goto err_land;
	err = esnap_proc_init();
	if (err)
		goto err_image;
	err = esnap_reboot_init();
	if (err)
		goto err_proc;
	err = esnap_hibernate_init();
	if (err)
		goto err_reboot;
	err = esnap_ctl_init();
	if (err)
		goto err_hibernate;
	return 0;

err_hibernate:
	esnap_hibernate_exit();
err_reboot:
	esnap_reboot_exit();
err_proc:
	esnap_proc_exit();
err_image:
	esnap_image_module_exit();
err_land:
	esnap_land_module_exit();
err_save:
	esnap_save_module_exit();
err_registry:
	esnap_registry_exit();
	return err;
}

static void __exit esnap_exit(void)
{
	esnap_ctl_exit();
	esnap_hibernate_exit();
	esnap_reboot_exit();
	esnap_proc_exit();
	esnap_destroy_all();
	esnap_reload_exit();
	/* A frame that returns from a mount or an unmount looks for its trackers. */
	esnap_hook_wait_frames();
	/* A failure may have asked for it before its tracker went. */
	esnap_registry_exit();
	esnap_image_module_exit();
	esnap_land_module_exit();
	esnap_save_module_exit();
}

module_init(esnap_init);
module_exit(esnap_exit);

MODULE_DESCRIPTION("Live block-level snapshots and changed-block tracking");
MODULE_LICENSE("GPL");
MODULE_VERSION(ESNAP_VERSION);
