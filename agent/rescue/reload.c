// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "device.h"
#include "file.h"
#include "reload.h"
#include "unmounted.h"

#define POLL_NS 100000000

// Takes a list that was read, or could not be, apart.
static enum exit_code parse(char *text, const char *name, struct reload_list *list)
{
	const char *wrong;
	size_t line;

	if (!text) {
		complain("cannot read %s (%s): the next backup of what was tracked is a full", name,
			 strerror(errno));
		return EXIT_FAILED;
	}
	wrong = reload_list_parse(text, list, &line);
	if (!wrong)
		return EXIT_DONE;
	complain("%s, line %zu: %s; nothing is reloaded, the next backup of what was tracked is a full",
		 name, line, wrong);
	return EXIT_FAILED;
}

static void find_all(const struct reload_list *list, unsigned int *nr_found, struct device *found)
{
	for (size_t i = 0; i < list->nr; i++)
		if (!nr_found[i])
			nr_found[i] = device_by_id(list->entries[i].device, &found[i]);
}

static bool all_found(const struct reload_list *list, const unsigned int *nr_found)
{
	for (size_t i = 0; i < list->nr; i++)
		if (!nr_found[i])
			return false;
	return true;
}

static enum exit_code reload_found(int control, const struct reload_entry *entry,
				   unsigned int nr_found, const struct device *device)
{
	if (nr_found == 1)
		return control_reload(control, entry, device->path);
	if (nr_found)
		complain("%u devices are %s, such as %s: none of them is tracked again, the next backup is a full",
			 nr_found, entry->device, device->path);
	else
		complain("there is no device %s: when it comes back, the next backup of it is a full",
			 entry->device);
	return EXIT_NOT_FOUND;
}

static enum exit_code reload_all(int control, const struct reload_list *list, unsigned int wait_seconds)
{
	unsigned int *nr_found = calloc(list->nr + 1, sizeof(*nr_found));
	struct device *found = calloc(list->nr + 1, sizeof(*found));
	enum exit_code worst = EXIT_DONE;
	size_t nr_failed = 0;

	if (!nr_found || !found) {
		complain("there is no memory: the next backup of what was tracked is a full");
		return EXIT_FAILED;
	}
	find_all(list, nr_found, found);
	for (unsigned int waits = wait_seconds * (1000000000 / POLL_NS);
	     waits && !all_found(list, nr_found); waits--) {
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
		find_all(list, nr_found, found);
	}
	for (size_t i = 0; i < list->nr; i++) {
		enum exit_code code = reload_found(control, &list->entries[i], nr_found[i], &found[i]);

		if (code != EXIT_DONE) {
			worst = code;
			nr_failed++;
		}
	}
	free(nr_found);
	free(found);
	return nr_failed && nr_failed < list->nr ? EXIT_PARTIAL : worst;
}

enum exit_code reload_list(const char *path, unsigned int wait_seconds)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), control;
	struct reload_list list;
	enum exit_code code;
	char *text = NULL;

	if (fd < 0 && errno == ENOENT)
		return EXIT_DONE;
	if (fd >= 0) {
		text = read_text(fd);
		close(fd);
	}
	code = parse(text, path, &list);
	if (code != EXIT_DONE || !list.nr)
		return code;
	control = control_open();
	return control < 0 ? EXIT_UNREACHABLE : reload_all(control, &list, wait_seconds);
}

static enum exit_code reload_entries_of(const struct device *root, const struct reload_list *list)
{
	int control = -1;

	for (size_t i = 0; i < list->nr; i++) {
		enum exit_code code;

		if (!device_is(root, list->entries[i].device))
			continue;
		if (control < 0)
			control = control_open();
		if (control < 0)
			return EXIT_UNREACHABLE;
		code = control_reload(control, &list->entries[i], root->path);
		if (code != EXIT_DONE)
			return code;
	}
	return EXIT_DONE;
}

static enum exit_code reload_read_only(const struct device *root, const struct read_only *ro)
{
	char *text = read_unmounted(ro, RELOAD_LIST_PATH);
	struct reload_list list;
	enum exit_code code;

	if (!text && (errno == ENOENT || errno == ENOTDIR || errno == EMEDIUMTYPE))
		return EXIT_DONE;
	code = parse(text, RELOAD_LIST_PATH, &list);
	return code == EXIT_DONE ? reload_entries_of(root, &list) : code;
}

// It is announced before it is writable again: from then on whoever writes to it is seen.
enum exit_code reload_root(const char *path)
{
	struct read_only ro;
	struct device root;
	enum exit_code code;

	if (!device_by_path(path, &root)) {
		complain("%s is no block device: nothing is reloaded", path);
		return EXIT_NOT_FOUND;
	}
	if (!read_only_begin(root.path, &ro))
		return EXIT_BUSY;
	code = reload_read_only(&root, &ro);
	return read_only_end(&ro) ? code : EXIT_FAILED;
}
