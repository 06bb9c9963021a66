// SPDX-License-Identifier: Apache-2.0
/*
 * For the unit tests of what elio-rescue reads.
 *
 * rescue-check list: parses a list from stdin and writes it again, or what is wrong with it, "LINE: TEXT", and exits with 1.
 * rescue-check partuuid DISK SECTOR_SIZE NUMBER: the PARTUUID in an image of a disk.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "partition.h"
#include "reload-list.h"

static void print_escaped(const char *text)
{
	for (; *text; text++) {
		unsigned char c = *text;

		if (c <= ' ' || c == '\\' || c == 0x7f)
			printf("\\%03o", c);
		else
			putchar(c);
	}
}

static int check_list(void)
{
	char *text = read_text(STDIN_FILENO);
	struct reload_list list;
	const char *wrong;
	size_t line;

	if (!text)
		return 2;
	wrong = reload_list_parse(text, &list, &line);
	if (wrong) {
		printf("%zu: %s\n", line, wrong);
	} else {
		printf("elio-reload 1\n");
		for (size_t i = 0; i < list.nr; i++) {
			const struct reload_entry *e = &list.entries[i];

			printf("%s %" PRIu32 " ", e->snapshot ? "snapshot" : "incremental", e->minor);
			print_escaped(e->device);
			putchar(' ');
			print_escaped(e->cow_file);
			printf(" %" PRIu64 " %d\n", e->cache_size, e->ignore_errors);
		}
	}
	free(list.entries);
	free(text);
	return wrong ? 1 : 0;
}

static int check_partuuid(const char *disk, const char *sector_size, const char *number)
{
	int fd = open(disk, O_RDONLY);
	char partuuid[64];

	if (fd < 0)
		return 2;
	if (!read_table(fd, strtoul(sector_size, NULL, 10), strtoul(number, NULL, 10), partuuid,
			sizeof(partuuid)))
		return 1;
	printf("%s\n", partuuid);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "list"))
		return check_list();
	if (argc == 5 && !strcmp(argv[1], "partuuid"))
		return check_partuuid(argv[2], argv[3], argv[4]);
	return 2;
}
