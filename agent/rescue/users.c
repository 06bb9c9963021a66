// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "elastio-snap.h"
#include "users.h"

// The images' major number; false: the module is not loaded.
static bool image_major(unsigned int *number)
{
	char line[128], name[64];
	bool in_blocks = false, found = false;
	FILE *devices = fopen("/proc/devices", "r");

	if (!devices)
		return false;
	while (!found && fgets(line, sizeof(line), devices)) {
		in_blocks = in_blocks || !strncmp(line, "Block devices", 13);
		found = in_blocks && sscanf(line, "%u %63s", number, name) == 2 &&
			!strcmp(name, ELASTIO_SNAP_IMAGE_NAME);
	}
	fclose(devices);
	return found;
}

// The image that an open file is; false: it is none.
static bool image_of(int directory, const char *fd, unsigned int images, unsigned int *image)
{
	char path[PATH_MAX];
	struct stat file;
	ssize_t length = readlinkat(directory, fd, path, sizeof(path));

	if (length < 5 || strncmp(path, "/dev/", 5))
		return false;
	// Not by its name: a container has names of its own.
	if (fstatat(directory, fd, &file, 0) || !S_ISBLK(file.st_mode) ||
	    major(file.st_rdev) != images)
		return false;
	*image = minor(file.st_rdev);
	return true;
}

static void command_of(unsigned long pid, char *command, size_t size)
{
	char path[64];
	FILE *comm;

	snprintf(path, sizeof(path), "/proc/%lu/comm", pid);
	comm = fopen(path, "r");
	if (!comm || !fgets(command, size, comm))
		snprintf(command, size, "?");
	command[strcspn(command, "\n")] = '\0';
	if (comm)
		fclose(comm);
}

static void print_users_in(unsigned long pid, unsigned int images)
{
	char path[64], command[64];
	unsigned int image, last = UINT_MAX;
	struct dirent *entry;
	DIR *files;

	snprintf(path, sizeof(path), "/proc/%lu/fd", pid);
	files = opendir(path);
	// A process that has ended, or one that we may not look at.
	if (!files)
		return;
	while ((entry = readdir(files))) {
		if (!image_of(dirfd(files), entry->d_name, images, &image) || image == last)
			continue;
		last = image;
		command_of(pid, command, sizeof(command));
		printf("%u %lu %s\n", image, pid, command);
	}
	closedir(files);
}

enum exit_code print_users(void)
{
	struct dirent *entry;
	unsigned int images;
	DIR *processes;

	if (!image_major(&images))
		return EXIT_DONE;
	processes = opendir("/proc");
	if (!processes) {
		complain("cannot read /proc: %s", strerror(errno));
		return EXIT_FAILED;
	}
	while ((entry = readdir(processes))) {
		unsigned long pid = strtoul(entry->d_name, NULL, 10);

		// What is no process gives 0.
		if (pid)
			print_users_in(pid, images);
	}
	closedir(processes);
	return EXIT_DONE;
}
