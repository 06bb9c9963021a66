// SPDX-License-Identifier: Apache-2.0
// cowcheck COW ORIGIN_BYTES: prints header and changed blocks of a COW file as JSON. Fails when nr_changed_blocks is not
// the number of entries that are not zero, or when anything but zeros follows the header's fields.
#include "cow.h"

static void check_rest_of_header(const char *path)
{
	unsigned char header[ELASTIO_SNAP_HEADER_SIZE];
	int fd = open_for_reading(path);

	read_all(fd, path, header, sizeof(header), 0);
	close(fd);
	for (size_t i = sizeof(struct elastio_snap_cow_header); i < sizeof(header); i++)
		if (header[i])
			die("%s: byte %zu of the header is not zero", path, i);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: cowcheck COW ORIGIN_BYTES");
	struct cow cow = read_cow(argv[1], number(argv[2]) / SECTOR);
	const struct elastio_snap_cow_header *h = &cow.header;

	check_rest_of_header(argv[1]);
	printf("{\"magic\":%u,\"flags\":%u,\"fpos\":%llu,\"fsize\":%llu,\"seqId\":%llu,\"uuid\":\"",
	       h->magic, h->flags, h->fpos, h->fsize, h->seqid);
	for (size_t i = 0; i < sizeof(h->uuid); i++)
		printf("%02x", h->uuid[i]);
	printf("\",\"version\":%llu,\"nrChangedBlocks\":%llu,\"extents\":[", h->version,
	       h->nr_changed_blocks);
	const char *separator = "";

	for (uint64_t i = 0; i < cow.nr_blocks; i++) {
		uint64_t first = i;

		while (i < cow.nr_blocks && cow.entries[i])
			i++;
		if (i == first)
			continue;
		printf("%s[%" PRIu64 ",%" PRIu64 "]", separator, first, i - first);
		separator = ",";
	}
	printf("]}\n");
	if (cow.nr_nonzero != h->nr_changed_blocks)
		die("%s: %" PRIu64 " entries are not zero, nr_changed_blocks is %llu", argv[1],
		    cow.nr_nonzero, h->nr_changed_blocks);
	return 0;
}
