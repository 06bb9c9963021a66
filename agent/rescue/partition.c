// SPDX-License-Identifier: Apache-2.0
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "partition.h"

#define MBR_DISK_ID 0x1b8
#define MBR_ENTRIES 0x1be
#define MBR_ENTRY_SIZE 16
#define MBR_ENTRY_TYPE 4
#define MBR_PROTECTIVE 0xee
#define MBR_SIGNATURE 0x1fe

#define GPT_SIGNATURE "EFI PART"
#define GPT_FIRST_ENTRY 72
#define GPT_NR_ENTRIES 80
#define GPT_ENTRY_SIZE 84
#define GPT_ENTRY_GUID 16

#define SECTOR 512

static uint16_t le16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t le32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t le64(const uint8_t *at)
{
	return le32(at) | (uint64_t)le32(at + 4) << 32;
}

static bool read_gpt(int fd, uint32_t sector_size, uint32_t number, char *partuuid, size_t size)
{
	uint8_t header[SECTOR], g[16];
	uint32_t entry_size;
	uint64_t entry;

	if (pread(fd, header, sizeof(header), sector_size) != sizeof(header) ||
	    memcmp(header, GPT_SIGNATURE, sizeof(GPT_SIGNATURE) - 1) ||
	    number > le32(header + GPT_NR_ENTRIES))
		return false;
	entry_size = le32(header + GPT_ENTRY_SIZE);
	entry = le64(header + GPT_FIRST_ENTRY) * sector_size + (uint64_t)(number - 1) * entry_size;
	if (pread(fd, g, sizeof(g), entry + GPT_ENTRY_GUID) != sizeof(g))
		return false;
	// Its first three parts are little-endian, the others are bytes.
	snprintf(partuuid, size, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", le32(g),
		 le16(g + 4), le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
	return true;
}

bool read_table(int fd, uint32_t sector_size, uint32_t number, char *partuuid, size_t size)
{
	uint8_t mbr[SECTOR];
	uint32_t disk_id;

	if (!number || pread(fd, mbr, sizeof(mbr), 0) != sizeof(mbr) ||
	    le16(mbr + MBR_SIGNATURE) != 0xaa55)
		return false;
	for (int i = 0; i < 4; i++)
		if (mbr[MBR_ENTRIES + i * MBR_ENTRY_SIZE + MBR_ENTRY_TYPE] == MBR_PROTECTIVE)
			return read_gpt(fd, sector_size, number, partuuid, size);
	disk_id = le32(mbr + MBR_DISK_ID);
	if (!disk_id)
		return false;
	snprintf(partuuid, size, "%08x-%02x", disk_id, number);
	return true;
}

static bool read_number(const char *directory, const char *attribute, uint32_t *number)
{
	char path[PATH_MAX + 64], value[32];

	snprintf(path, sizeof(path), "%s/%s", directory, attribute);
	if (!read_attribute(path, value, sizeof(value)))
		return false;
	*number = strtoul(value, NULL, 10);
	return true;
}

// A partition's directory in sysfs is below that of its disk.
bool read_partuuid(const char *name, char *partuuid, size_t size)
{
	char path[PATH_MAX + 64], directory[PATH_MAX], *slash;
	uint32_t number, sector_size;
	bool found;
	int fd;

	snprintf(path, sizeof(path), "/sys/class/block/%s", name);
	if (!realpath(path, directory) || !read_number(directory, "partition", &number))
		return false;
	slash = strrchr(directory, '/');
	*slash = '\0';
	if (!read_number(directory, "queue/logical_block_size", &sector_size))
		return false;
	// A slash of the node's name is an exclamation mark in sysfs.
	snprintf(path, sizeof(path), "/dev/%s", strrchr(directory, '/') + 1);
	for (char *c = path + sizeof("/dev/") - 1; *c; c++)
		if (*c == '!')
			*c = '/';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	found = read_table(fd, sector_size, number, partuuid, size);
	close(fd);
	return found;
}
