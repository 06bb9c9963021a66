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
#define POLLS_A_SECOND (1000000000 / POLL_NS)

static void wait_a_moment(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
}

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

// Looks for the device of an entry; true when that is settled.
static bool try_reload(int control, const struct reload_entry *entry, enum exit_code *code)
{
	struct device device;
	unsigned int nr = device_by_id(entry->device, &device);

	if (nr == 1) {
		*code = control_reload(control, entry, device.path);
	} else if (nr) {
		complain("%u devices are %s, such as %s: none of them is tracked again, the next backup is a full",
			 nr, entry->device, device.path);
		*code = EXIT_NOT_FOUND;
	}
	return nr;
}

static enum exit_code reload_all(int control, const struct reload_list *list, unsigned int wait_seconds)
{
	uint64_t waits = (uint64_t)wait_seconds * POLLS_A_SECOND;
	bool *settled = calloc(list->nr, sizeof(*settled));
	size_t nr_left = list->nr, nr_failed = 0;
	enum exit_code worst = EXIT_DONE;

	if (!settled) {
		complain("there is no memory: the next backup of what was tracked is a full");
		return EXIT_FAILED;
	}
	for (;; waits--) {
		for (size_t i = 0; i < list->nr; i++) {
			enum exit_code code;

			if (settled[i] || !try_reload(control, &list->entries[i], &code))
				continue;
			settled[i] = true;
			nr_left--;
			if (code != EXIT_DONE) {
				worst = code;
				nr_failed++;
			}
		}
		if (!nr_left || !waits)
			break;
		wait_a_moment();
	}
	for (size_t i = 0; i < list->nr; i++)
		if (!settled[i])
			complain("there is no device %s: when it comes back, the next backup of it is a full",
				 list->entries[i].device);
	free(settled);
	if (nr_left)
		worst = EXIT_NOT_FOUND;
	nr_failed += nr_left;
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
enum exit_code reload_root(const char *path, unsigned int wait_seconds)
{
	uint64_t waits = (uint64_t)wait_seconds * POLLS_A_SECOND;
	struct read_only ro;
	struct device root;
	enum exit_code code;

	for (; !device_by_path(path, &root); waits--) {
		if (!waits) {
			complain("%s is no block device: nothing is reloaded", path);
			return EXIT_NOT_FOUND;
		}
		wait_a_moment();
	}
	if (!read_only_begin(root.path, &ro))
		return EXIT_BUSY;
	code = reload_read_only(&root, &ro);
	return read_only_end(&ro) ? code : EXIT_FAILED;
}
