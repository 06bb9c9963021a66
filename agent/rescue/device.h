/* SPDX-License-Identifier: Apache-2.0 */
// Block devices by an identity that outlives a reboot, resolved without udev.
#ifndef DEVICE_H
#define DEVICE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct device {
	// In /sys/class/block.
	char name[NAME_MAX + 1];
	// In /dev.
	char path[PATH_MAX];
};

// The device that a path leads to; false when it is no block device that can be read.
bool device_by_path(const char *path, struct device *device);

// Is it the device of this identity?
bool device_is(const struct device *device, const char *id);

// How many devices have this identity and can be read; `device` is the last one found.
unsigned int device_by_id(const char *id, struct device *device);

// Do both paths lead to the same block device?
bool same_device(const char *a, const char *b);

#endif
