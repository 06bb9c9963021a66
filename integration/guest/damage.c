// SPDX-License-Identifier: Apache-2.0
// damage SEED FILE: damages what FILE holds, the header and the index of a COW file as the driver has closed it: numbers of the
// header or of its bitmap, with a checksum that is right all the same; entries of the index; or a bit of the header.
#include <stddef.h>

#include "elastio-snap.h"
#include "guest.h"
#include "random.h"
#include "siphash.h"

static uint64_t odd_number(uint64_t near)
{
	const uint64_t edges[] = { 0, 1, 2, near - 1, near + 1, near * 2, 1ULL << 31, 1ULL << 52, UINT64_MAX, random64() };

	return edges[below(sizeof(edges) / sizeof(edges[0]))];
}

static void damage_header(struct elastio_snap_cow_raw_header *header)
{
	static const size_t fields[] = {
		offsetof(struct elastio_snap_cow_raw_header, cow.fpos), offsetof(struct elastio_snap_cow_raw_header, cow.fsize),
		offsetof(struct elastio_snap_cow_raw_header, cow.seqid),
		offsetof(struct elastio_snap_cow_raw_header, cow.version),
		offsetof(struct elastio_snap_cow_raw_header, cow.nr_changed_blocks),
		offsetof(struct elastio_snap_cow_raw_header, origin_sectors),
		offsetof(struct elastio_snap_cow_raw_header, nr_extents),
		offsetof(struct elastio_snap_cow_raw_header, tail_entry),
		offsetof(struct elastio_snap_cow_raw_header, group_shift),
	};
	char *bytes = (char *)header;
	char *field = bytes + fields[below(sizeof(fields) / sizeof(fields[0]))];
	uint64_t value;
	uint64_t key[2];

	if (below(2)) {
		memcpy(&value, field, sizeof(value));
		value = odd_number(value);
		memcpy(field, &value, sizeof(value));
	} else {
		bytes[ELASTIO_SNAP_COW_GROUPS_OFFSET + below(below(2) ? 2 : ELASTIO_SNAP_COW_GROUPS / 8)] ^= 1 << below(8);
	}
	memcpy(key, header->cow.uuid, sizeof(key));
	header->checksum = 0;
	header->checksum = siphash_2_4(bytes, ELASTIO_SNAP_HEADER_SIZE, key[0], key[1]);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: damage SEED FILE");
	seed_random(number(argv[1]));

	int fd = open(argv[2], O_RDWR);
	uint64_t size = fd < 0 ? 0 : size_of(fd, argv[2]);
	char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (bytes == MAP_FAILED || size <= ELASTIO_SNAP_HEADER_SIZE)
		die_errno(argv[2]);

	struct elastio_snap_cow_raw_header *header = (void *)bytes;
	uint64_t *entries = (void *)(bytes + ELASTIO_SNAP_HEADER_SIZE);
	uint64_t nr_entries = (size - ELASTIO_SNAP_HEADER_SIZE) / sizeof(*entries);

	if (header->cow.magic != ELASTIO_SNAP_COW_MAGIC_RAW)
		die("%s: no header of a closed COW file", argv[2]);
	for (uint64_t n = below(4); n; n--)
		entries[below(below(2) ? nr_entries : 512)] = odd_number(header->cow.fpos);
	if (below(8) == 0)
		bytes[below(ELASTIO_SNAP_HEADER_SIZE)] ^= 1 << below(8);
	else if (below(2))
		damage_header(header);
	return 0;
}
