// SPDX-License-Identifier: Apache-2.0
/*
 * An identity is KIND=VALUE (agent/src/os/stable-ids.ts writes them):
 *
 * DM_UUID   what LVM, LUKS and multipath name their devices by
 * MD_UUID   of an md array
 * PARTUUID  of a partition, from its table
 * WWID      of a SCSI or NVMe disk
 * SERIAL    of a virtio disk
 *
 * The UUID or the label of a filesystem is none: each image and each clone of the
 * filesystem has the same. Where two devices have the same identity, as a disk and its
 * copy, neither is taken.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"
#include "file.h"
#include "partition.h"

#define SYS_BLOCK "/sys/class/block"
#define VALUE_MAX 256

struct kind {
	const char *name;
	// Of sysfs, below the device's directory; one of them is there, or none.
	const char *attributes[2];
};

static const struct kind kinds[] = {
	{ "DM_UUID", { "dm/uuid" } },
	{ "MD_UUID", { "md/uuid" } },
	{ "WWID", { "wwid", "device/wwid" } },
	{ "SERIAL", { "serial" } },
};

static bool attribute(const char *name, const char *file, char *value)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_BLOCK "/%s/%s", name, file);
	return read_attribute(path, value, VALUE_MAX);
}

// A mapped device or an array has its identity before it has its content.
static bool is_ready(const char *name)
{
	char value[VALUE_MAX];

	if (attribute(name, "dm/suspended", value) && strcmp(value, "0"))
		return false;
	return attribute(name, "size", value) && strcmp(value, "0");
}

// The node's name is in the event that the kernel sent for the device.
static bool name_node(struct device *device)
{
	char path[PATH_MAX], line[PATH_MAX];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), SYS_BLOCK "/%s/uevent", device->name);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = !strncmp(line, "DEVNAME=", 8);
	}
	fclose(file);
	if (found)
		snprintf(device->path, sizeof(device->path), "/dev/%.4000s", line + 8);
	return found;
}

bool device_by_path(const char *path, struct device *device)
{
	char link[PATH_MAX], target[PATH_MAX];
	struct stat st;
	ssize_t length;
	char *name;

	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return false;
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	name = strrchr(target, '/');
	if (!name || strlen(name + 1) >= sizeof(device->name))
		return false;
	strcpy(device->name, name + 1);
	return is_ready(device->name) && name_node(device);
}

bool device_is(const struct device *device, const char *id)
{
	const char *value = strchr(id, '=') + 1;
	char found[VALUE_MAX];

	if (!strncmp(id, "PARTUUID=", value - id))
		return read_partuuid(device->name, found, sizeof(found)) && !strcmp(found, value);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (strncmp(kinds[i].name, id, value - 1 - id) ||
		    kinds[i].name[value - 1 - id])
			continue;
		for (size_t j = 0; j < 2 && kinds[i].attributes[j]; j++)
			if (attribute(device->name, kinds[i].attributes[j], found))
				return !strcmp(found, value);
	}
	return false;
}

unsigned int device_by_id(const char *id, struct device *device)
{
	DIR *directory = opendir(SYS_BLOCK);
	struct device candidate;
	unsigned int nr = 0;
	struct dirent *entry;

	if (!directory)
		return 0;
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		strcpy(candidate.name, entry->d_name);
		if (!device_is(&candidate, id) || !is_ready(candidate.name) || !name_node(&candidate))
			continue;
		*device = candidate;
		nr++;
	}
	closedir(directory);
	return nr;
}

bool same_device(const char *a, const char *b)
{
	struct stat first, second;

	return !stat(a, &first) && !stat(b, &second) && S_ISBLK(first.st_mode) &&
	       S_ISBLK(second.st_mode) && first.st_rdev == second.st_rdev;
}
