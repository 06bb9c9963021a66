// SPDX-License-Identifier: Apache-2.0
// fragment make DIRECTORY: fills the filesystem with files of 512 KiB and deletes every other one: what is made next is in many
// pieces. fragment overwrite DIRECTORY SEED: overwrites the beginning of one in three of the files that are left.
#include "guest.h"

enum { MAX_FILES = 2000, SIZE = 512 << 10, PIECE = 64 << 10 };

static uint64_t buffer[PIECE / 8];

static void fill_buffer(uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;

	for (size_t i = 0; i < PIECE / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buffer[i] = x;
	}
}

// False: there is no more space.
static bool make_file(int number)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%d", number);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno == ENOSPC)
		return false;
	if (fd < 0)
		die_errno(name);
	fill_buffer(number);
	for (int done = 0; done < SIZE; done += PIECE) {
		ssize_t n = write(fd, buffer, PIECE);

		if (n == PIECE)
			continue;
		if (n < 0 && errno != ENOSPC)
			die_errno(name);
		close(fd);
		unlink(name);
		return false;
	}
	close(fd);
	return true;
}

static void make(void)
{
	char name[16];
	int number = 1;

	while (number <= MAX_FILES && make_file(number))
		number++;
	for (int odd = 1; odd < number; odd += 2) {
		snprintf(name, sizeof(name), "%d", odd);
		if (unlink(name))
			die_errno(name);
	}
}

static void overwrite(uint64_t seed)
{
	char name[16];

	for (int number = 2; number <= MAX_FILES; number += 6) {
		snprintf(name, sizeof(name), "%d", number);
		int fd = open(name, O_WRONLY);

		if (fd < 0 && errno == ENOENT)
			continue;
		fill_buffer(seed << 32 | number);
		if (fd < 0 || write(fd, buffer, PIECE) != PIECE)
			die_errno(name);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[1] : "";

	if (argc > 2 && chdir(argv[2]))
		die_errno(argv[2]);
	if (!strcmp(command, "make") && argc == 3)
		make();
	else if (!strcmp(command, "overwrite") && argc == 4)
		overwrite(number(argv[3]));
	else
		die("usage: fragment make DIRECTORY | overwrite DIRECTORY SEED");
	sync();
	return 0;
}
