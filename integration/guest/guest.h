/* SPDX-License-Identifier: Apache-2.0 */
// What the test programs share: errors, whole reads, the extents of a file.
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#define SECTOR 512
#define BLOCK 4096
#define BLOCK_SECTORS (BLOCK / SECTOR)

#define die(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(2))
#define die_errno(what) die("%s: %s", what, strerrorname_np(errno))

static inline void *allocate(size_t size)
{
	void *memory = aligned_alloc(BLOCK, (size + BLOCK - 1) / BLOCK * BLOCK);

	if (!memory)
		die("no memory for %zu bytes", size);
	memset(memory, 0, size);
	return memory;
}

static inline uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (end == text || *end)
		die("%s is not a number", text);
	return value;
}

// A block device is read past the page cache, which may be older than what a
// filesystem wrote.
static inline int open_for_reading(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st))
		die_errno(path);
	if (S_ISBLK(st.st_mode) && fcntl(fd, F_SETFL, O_DIRECT))
		die_errno(path);
	return fd;
}

static inline uint64_t size_of(int fd, const char *path)
{
	off_t size = lseek(fd, 0, SEEK_END);

	if (size < 0)
		die_errno(path);
	return size;
}

static inline void read_all(int fd, const char *path, void *data, size_t size, uint64_t at)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(fd, (char *)data + done, size - done, at + done);

		if (n < 0)
			die_errno(path);
		if (n == 0)
			die("%s: ends at %" PRIu64, path, at + done);
		done += n;
	}
}

struct extent {
	uint64_t file_sector;
	uint64_t disk_sector;
	uint64_t nr_sectors;
};

// The extents of an open file, in file order; returns their number.
static inline uint32_t map_extents(int fd, const char *path, struct extent *extents, uint32_t max)
{
	enum { BATCH = 128 };
	struct fiemap *map = allocate(sizeof(*map) + BATCH * sizeof(struct fiemap_extent));
	uint64_t at = 0;
	uint32_t nr = 0;
	bool last = false;

	while (!last) {
		memset(map, 0, sizeof(*map));
		map->fm_start = at;
		map->fm_length = ~0ULL - at;
		map->fm_extent_count = BATCH;
		if (ioctl(fd, FS_IOC_FIEMAP, map))
			die_errno(path);
		last = map->fm_mapped_extents == 0;
		for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &map->fm_extents[i];

			if (nr == max)
				die("%s: more than %u extents", path, max);
			extents[nr++] = (struct extent){ e->fe_logical / SECTOR, e->fe_physical / SECTOR,
							 e->fe_length / SECTOR };
			at = e->fe_logical + e->fe_length;
			last = e->fe_flags & FIEMAP_EXTENT_LAST;
		}
	}
	free(map);
	return nr;
}

#endif
