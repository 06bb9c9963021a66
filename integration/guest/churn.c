// SPDX-License-Identifier: Apache-2.0
// churn DIRECTORY SEED [COUNT]: creates, overwrites, maps, punches, truncates, renames, syncs and deletes files, COUNT times or
// until SIGTERM; then exits with 0. Exits with 2 when the filesystem refuses anything of it, other than for lack of space.
#include <signal.h>

#include "guest.h"

enum { FILES = 64, MAX_SIZE = 64 << 10 };

static volatile sig_atomic_t stopped;
static uint64_t state;
static unsigned char data[MAX_SIZE];

static void on_term(int signal)
{
	(void)signal;
	stopped = 1;
}

static uint32_t below(uint32_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 32) % limit;
}

static void require(bool done, const char *what)
{
	if (!done && errno != ENOSPC && errno != ENOENT)
		die_errno(what);
}

static void write_mapped(int fd)
{
	if (ftruncate(fd, MAX_SIZE) || posix_fallocate(fd, 0, MAX_SIZE))
		return;
	unsigned char *map = mmap(NULL, MAX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die_errno("mmap");
	uint32_t at = below(MAX_SIZE - 8192);

	memcpy(map + at, data + at, 8192);
	if (below(2))
		require(!msync(map, MAX_SIZE, MS_SYNC), "msync");
	munmap(map, MAX_SIZE);
}

static void change(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT, 0600);

	require(fd >= 0, "open");
	if (fd < 0)
		return;
	memset(data + below(MAX_SIZE / 2), below(256), MAX_SIZE / 2);
	switch (below(6)) {
	case 0:
		write_mapped(fd);
		break;
	case 1:
		require(!ftruncate(fd, below(MAX_SIZE)), "truncate");
		break;
	case 2:
		require(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, below(MAX_SIZE),
				   1 + below(MAX_SIZE)) ||
				errno == EOPNOTSUPP,
			"punch");
		break;
	default:
		require(pwrite(fd, data, 1 + below(MAX_SIZE), below(MAX_SIZE / 2)) > 0, "write");
	}
	if (!below(4))
		require(!fsync(fd), "fsync");
	close(fd);
}

int main(int argc, char **argv)
{
	char name[16], other[16];

	if (argc != 3 && argc != 4)
		die("usage: churn DIRECTORY SEED [COUNT]");
	if (chdir(argv[1]))
		die_errno(argv[1]);
	state = number(argv[2]) * 0x9e3779b97f4a7c15ULL + 1;
	signal(SIGTERM, on_term);
	for (uint64_t count = argc == 4 ? number(argv[3]) : UINT64_MAX; count && !stopped; count--) {
		snprintf(name, sizeof(name), "f%u", below(FILES));
		snprintf(other, sizeof(other), "f%u", below(FILES));
		switch (below(8)) {
		case 0:
			require(!unlink(name), "unlink");
			break;
		case 1:
			require(!rename(name, other), "rename");
			break;
		case 2:
			snprintf(other, sizeof(other), "d%u", below(FILES));
			if (mkdir(other, 0700))
				require(!rmdir(other), "rmdir");
			break;
		default:
			change(name);
		}
	}
	return 0;
}
