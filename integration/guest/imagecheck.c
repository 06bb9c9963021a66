// SPDX-License-Identifier: Apache-2.0
// imagecheck extents FILE: prints the device sectors of a file, "first number" a line: a LIST for the commands below
// imagecheck zero IMAGE LIST: are all sectors of the list zero?
// imagecheck same A B [LIST...]: are all sectors outside the lists the same?
// imagecheck changed OLD NEW COW [LIST...]: has every block that differs outside the lists an entry in the COW file?
#include "cow.h"

enum { CHUNK = 1 << 20, MAX_EXTENTS = 1 << 16 };

struct image {
	const char *path;
	int fd;
	uint64_t nr_sectors;
	unsigned char *chunk;
};

static struct image open_image(const char *path)
{
	struct image image = { .path = path, .fd = open_for_reading(path) };

	image.nr_sectors = size_of(image.fd, path) / SECTOR;
	image.chunk = allocate(CHUNK);
	return image;
}

// Loads the chunk that begins at a sector; returns its sectors, 0 at the end.
static uint64_t load(struct image *image, uint64_t sector)
{
	uint64_t nr = image->nr_sectors - sector;

	if (nr > CHUNK / SECTOR)
		nr = CHUNK / SECTOR;
	read_all(image->fd, image->path, image->chunk, nr * SECTOR, sector * SECTOR);
	return nr;
}

static int print_extents(const char *path)
{
	struct extent *extents = allocate(MAX_EXTENTS * sizeof(*extents));
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die_errno(path);
	uint32_t nr = map_extents(fd, path, extents, MAX_EXTENTS);

	for (uint32_t i = 0; i < nr; i++)
		printf("%" PRIu64 " %" PRIu64 "\n", extents[i].disk_sector, extents[i].nr_sectors);
	return 0;
}

// One byte for each sector: 1 = in the list.
static void add_list(unsigned char *listed, uint64_t nr_sectors, const char *path)
{
	FILE *file = fopen(path, "r");
	uint64_t first, nr;

	if (!file)
		die_errno(path);
	while (fscanf(file, "%" SCNu64 " %" SCNu64, &first, &nr) == 2) {
		if (first + nr > nr_sectors)
			die("%s: beyond the end of the image", path);
		memset(listed + first, 1, nr);
	}
	fclose(file);
}

static unsigned char *read_lists(uint64_t nr_sectors, char **paths)
{
	unsigned char *listed = allocate(nr_sectors);

	for (; *paths; paths++)
		add_list(listed, nr_sectors, *paths);
	return listed;
}

static int check_zero(const char *path, char **lists)
{
	static const unsigned char zeros[SECTOR];
	struct image image = open_image(path);
	unsigned char *listed = read_lists(image.nr_sectors, lists);
	uint64_t checked = 0, bad = 0, nr;

	for (uint64_t at = 0; at < image.nr_sectors; at += nr) {
		nr = load(&image, at);
		for (uint64_t i = 0; i < nr; i++) {
			if (!listed[at + i])
				continue;
			checked++;
			if (memcmp(image.chunk + i * SECTOR, zeros, SECTOR) && !bad++)
				fprintf(stderr, "%s: sector %" PRIu64 " is not zero\n", path, at + i);
		}
	}
	printf("%" PRIu64 " sectors, %" PRIu64 " not zero\n", checked, bad);
	return bad || !checked;
}

static bool differ(const struct image *a, const struct image *b, uint64_t i)
{
	return memcmp(a->chunk + i * SECTOR, b->chunk + i * SECTOR, SECTOR) != 0;
}

static int compare(const char *path_a, const char *path_b, const char *cow_path, char **lists)
{
	struct image a = open_image(path_a), b = open_image(path_b);
	struct cow cow = { 0 };
	uint64_t differing = 0, bad = 0, nr;

	if (a.nr_sectors != b.nr_sectors)
		die("%s has %" PRIu64 " sectors, %s has %" PRIu64, path_a, a.nr_sectors, path_b,
		    b.nr_sectors);
	unsigned char *listed = read_lists(a.nr_sectors, lists);

	if (cow_path)
		cow = read_cow(cow_path, a.nr_sectors);
	for (uint64_t at = 0; at < a.nr_sectors; at += nr) {
		nr = load(&a, at);
		load(&b, at);
		for (uint64_t i = 0; i < nr; i++) {
			uint64_t sector = at + i;

			if (listed[sector] || !differ(&a, &b, i))
				continue;
			differing++;
			if (cow_path && cow.entries[sector / BLOCK_SECTORS])
				continue;
			if (bad++ < 5)
				fprintf(stderr, "sector %" PRIu64 " differs%s\n", sector,
					cow_path ? " and is not in the index" : "");
		}
	}
	printf("%" PRIu64 " sectors differ, %" PRIu64 " of them wrongly\n", differing, bad);
	return bad != 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	if (!strcmp(command, "extents") && argc == 3)
		return print_extents(argv[2]);
	if (!strcmp(command, "zero") && argc == 4)
		return check_zero(argv[2], argv + 3);
	if (!strcmp(command, "same") && argc >= 4)
		return compare(argv[2], argv[3], NULL, argv + 4);
	if (!strcmp(command, "changed") && argc >= 5)
		return compare(argv[2], argv[3], argv[4], argv + 5);
	die("usage: imagecheck extents FILE | zero IMAGE LIST | same A B [LIST...] | "
	    "changed OLD NEW COW [LIST...]");
}
