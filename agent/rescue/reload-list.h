/* SPDX-License-Identifier: Apache-2.0 */
// The list of what is to be reloaded at boot, which the agent writes
// (agent/src/state/reload-list.ts describes the format).
#ifndef RELOAD_LIST_H
#define RELOAD_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// From the root of its filesystem.
#define RELOAD_LIST_PATH "/etc/elio/reload"

struct reload_entry {
	bool snapshot;
	uint32_t minor;
	// KIND=VALUE, see device.h.
	char *device;
	// From the root of the device's filesystem.
	char *cow_file;
	uint64_t cache_size;
	bool ignore_errors;
};

struct reload_list {
	struct reload_entry *entries;
	size_t nr;
};

// Takes a text apart, in place: the entries point into it. Returns NULL, or what
// is wrong with it, with the line's number.
const char *reload_list_parse(char *text, struct reload_list *list, size_t *line);

#endif
