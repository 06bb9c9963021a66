// SPDX-License-Identifier: Apache-2.0
// fill write FILE SEED: fills a new file with numbers made from the seed until there is no more space, and syncs it
// fill check FILE SEED: is it still what was written? Read past the page cache.
#include "guest.h"

enum { CHUNK = 64 << 10 };

static void make_chunk(uint64_t *words, uint64_t seed, uint64_t chunk)
{
	uint64_t x = (seed << 32 ^ chunk) * 0x9e3779b97f4a7c15ULL + 1;

	for (size_t i = 0; i < CHUNK / sizeof(*words); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
}

static int write_until_full(const char *path, uint64_t seed)
{
	uint64_t *words = allocate(CHUNK), size = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ssize_t n = CHUNK;

	if (fd < 0)
		die_errno(path);
	for (uint64_t chunk = 0; n == CHUNK; chunk++) {
		make_chunk(words, seed, chunk);
		n = write(fd, words, CHUNK);
		if (n < 0 && errno != ENOSPC)
			die_errno(path);
		size += n > 0 ? n : 0;
	}
	if (fsync(fd) || close(fd))
		die_errno(path);
	printf("%" PRIu64 "\n", size);
	return 0;
}

static int check(const char *path, uint64_t seed)
{
	uint64_t *want = allocate(CHUNK), *got = allocate(CHUNK);
	int fd = open_for_reading(path);
	uint64_t size = size_of(fd, path);

	if (!size)
		die("%s is empty", path);
	if (fcntl(fd, F_SETFL, O_DIRECT))
		die_errno(path);
	for (uint64_t at = 0; at < size; at += CHUNK) {
		make_chunk(want, seed, at / CHUNK);
		ssize_t n = pread(fd, got, CHUNK, at);

		if (n < 0)
			die_errno(path);
		if (memcmp(want, got, n))
			die("%s: the 64 KiB at %" PRIu64 " are not what was written", path, at);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "write"))
		return write_until_full(argv[2], number(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "check"))
		return check(argv[2], number(argv[3]));
	die("usage: fill write|check FILE SEED");
}
