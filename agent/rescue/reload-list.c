// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reload-list.h"

#define VERSION_LINE "elio-reload 1"

enum field { MODE, MINOR, DEVICE, COW_FILE, CACHE_SIZE, IGNORE_ERRORS, NR_FIELDS };

static bool parse_number(const char *text, uint64_t max, uint64_t *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end && *value <= max;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

// \ooo stands for a byte, as in /proc/mounts.
static bool unescape(char *text)
{
	char *out = text;

	for (; *text; text++) {
		if (*text != '\\') {
			*out++ = *text;
			continue;
		}
		if (text[1] < '0' || text[1] > '3' || !is_octal(text[2]) || !is_octal(text[3]))
			return false;
		*out = (text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0');
		if (!*out++)
			return false;
		text += 3;
	}
	*out = '\0';
	return true;
}

static const char *parse_entry(char *line, struct reload_entry *entry)
{
	char *fields[NR_FIELDS];
	size_t nr = 0;
	uint64_t value;

	for (char *field = line; field; nr++) {
		char *space = strchr(field, ' ');

		if (nr == NR_FIELDS)
			return "it has too many fields";
		if (space)
			*space++ = '\0';
		fields[nr] = field;
		field = space;
	}
	if (nr < NR_FIELDS)
		return "it has too few fields";
	entry->snapshot = !strcmp(fields[MODE], "snapshot");
	if (!entry->snapshot && strcmp(fields[MODE], "incremental"))
		return "its mode is neither snapshot nor incremental";
	if (!parse_number(fields[MINOR], UINT32_MAX, &value))
		return "its minor is not a number";
	entry->minor = value;
	if (!unescape(fields[DEVICE]) || !strchr(fields[DEVICE], '='))
		return "its device is not KIND=VALUE";
	entry->device = fields[DEVICE];
	if (!unescape(fields[COW_FILE]) || *fields[COW_FILE] != '/')
		return "its COW file is not an absolute path";
	entry->cow_file = fields[COW_FILE];
	if (!parse_number(fields[CACHE_SIZE], UINT64_MAX, &entry->cache_size))
		return "its cache size is not a number";
	if (!parse_number(fields[IGNORE_ERRORS], 1, &value))
		return "its last field is neither 0 nor 1";
	entry->ignore_errors = value;
	return NULL;
}

const char *reload_list_parse(char *text, struct reload_list *list, size_t *line)
{
	const char *wrong = NULL;
	size_t nr_lines = 0;

	*list = (struct reload_list){ NULL, 0 };
	*line = 1;
	for (const char *c = text; *c; c++)
		nr_lines += *c == '\n';
	list->entries = calloc(nr_lines + 1, sizeof(*list->entries));
	if (!list->entries)
		return "there is no memory";
	while (*text && !wrong) {
		char *end = strchr(text, '\n');

		if (!end)
			return "it ends in the middle of a line";
		*end = '\0';
		if (*line > 1)
			wrong = parse_entry(text, &list->entries[list->nr++]);
		else if (strcmp(text, VERSION_LINE))
			wrong = "it is not of this version (" VERSION_LINE ")";
		text = end + 1;
		*line += !wrong;
	}
	return !wrong && *line == 1 ? "it is empty" : wrong;
}
