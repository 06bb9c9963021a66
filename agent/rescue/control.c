// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "control.h"
#include "device.h"

int control_open(void)
{
	int control = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY | O_CLOEXEC);

	if (control >= 0)
		return control;
	if (errno == ENOENT)
		complain("the kernel module is not loaded: run `modprobe elastio-snap`");
	else if (errno == EACCES)
		complain("only root may use %s: run this as root", ELASTIO_SNAP_CTL_PATH);
	else
		complain("cannot open %s: %s", ELASTIO_SNAP_CTL_PATH, strerror(errno));
	return -1;
}

static enum exit_code tell(uint32_t minor, const char *call)
{
	switch (errno) {
	case ENOENT:
		complain("there is no snapshot %u: `elio-rescue list` shows those that exist", minor);
		return EXIT_NOT_FOUND;
	case EINVAL:
		complain("minor %u is out of range: the module parameter max_snap_devices is the limit",
			 minor);
		return EXIT_USAGE;
	case EBUSY:
		complain("the image %s%u is in use: unmount it or close it, then try again",
			 "/dev/" ELASTIO_SNAP_IMAGE_NAME, minor);
		return EXIT_BUSY;
	case EPERM:
		complain("the driver demands CAP_SYS_ADMIN: run this as root");
		return EXIT_UNREACHABLE;
	default:
		complain("%s of snapshot %u failed (%s): see the kernel log", call, minor,
			 strerror(errno));
		return EXIT_FAILED;
	}
}

enum exit_code control_info(int control, uint32_t minor, struct elastio_snap_info *info)
{
	*info = (struct elastio_snap_info){ .minor = minor };
	return ioctl(control, ELASTIO_SNAP_INFO, info) ? tell(minor, "info") : EXIT_DONE;
}

enum exit_code control_destroy(int control, uint32_t minor)
{
	return ioctl(control, ELASTIO_SNAP_DESTROY, &minor) ? tell(minor, "destroy") : EXIT_DONE;
}

enum exit_code control_reload(int control, const struct reload_entry *entry, const char *path)
{
	struct elastio_snap_info there = { .minor = entry->minor };
	struct elastio_snap_reload_params params = {
		.bdev = (uintptr_t)path,
		.cow = (uintptr_t)entry->cow_file,
		.cache_size = entry->cache_size,
		.minor = entry->minor,
		.ignore_errors = entry->ignore_errors,
	};

	if (!ioctl(control, ELASTIO_SNAP_INFO, &there)) {
		// Root's has been announced in the initramfs.
		if (same_device(there.bdev, path))
			return EXIT_DONE;
		complain("minor %u, under which %s (%s) was tracked, is taken by %s: the next backup of it is a full",
			 entry->minor, path, entry->device, there.bdev);
		return EXIT_STATE;
	}
	if (errno != ENOENT)
		return tell(entry->minor, "info");
	if (!ioctl(control, entry->snapshot ? ELASTIO_SNAP_RELOAD_SNAP : ELASTIO_SNAP_RELOAD_INC,
		   &params))
		return EXIT_DONE;
	if (errno == EINVAL) {
		complain("%s (%s) is mounted for writing or in use otherwise: the next backup of it is a full",
			 path, entry->device);
		return EXIT_STATE;
	}
	complain("%s (%s) cannot be tracked again (%s, see the kernel log): the next backup of it is a full",
		 path, entry->device, strerror(errno));
	return EXIT_FAILED;
}
