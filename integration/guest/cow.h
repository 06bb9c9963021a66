/* SPDX-License-Identifier: Apache-2.0 */
// Reading a COW file: header and index, as user space sees them.
#ifndef COW_H
#define COW_H

#include "elastio-snap.h"
#include "guest.h"

struct cow {
	struct elastio_snap_cow_header header;
	uint64_t nr_blocks;
	uint64_t *entries;
	uint64_t nr_nonzero;
};

// Reads the entries of the blocks of an origin of `nr_sectors`.
static inline struct cow read_cow(const char *path, uint64_t nr_sectors)
{
	struct cow cow = { .nr_blocks = (nr_sectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS };
	int fd = open_for_reading(path);

	read_all(fd, path, &cow.header, sizeof(cow.header), 0);
	cow.entries = allocate(cow.nr_blocks * sizeof(*cow.entries));
	read_all(fd, path, cow.entries, cow.nr_blocks * sizeof(*cow.entries),
		 ELASTIO_SNAP_HEADER_SIZE);
	for (uint64_t i = 0; i < cow.nr_blocks; i++)
		cow.nr_nonzero += cow.entries[i] != 0;
	close(fd);
	return cow;
}

#endif
