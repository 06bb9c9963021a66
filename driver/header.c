// SPDX-License-Identifier: GPL-2.0-only
/* The header of the COW file, in the form of old and in the raw one. */
#include <linux/bitops.h>
#include <linux/log2.h>
#include <linux/siphash.h>
#include <linux/string.h>

#include "header.h"
#include "store.h"

unsigned int esnap_group_shift(u64 nr_sections)
{
	unsigned int shift = 0;

	while (DIV_ROUND_UP_ULL(nr_sections, 1ULL << shift) > ELASTIO_SNAP_COW_GROUPS)
		shift++;
	return shift;
}

static siphash_key_t key_of(const u8 uuid[16])
{
	siphash_key_t key;

	memcpy(&key, uuid, sizeof(key));
	return key;
}

static void encode(const struct esnap_header *header, u32 magic,
		   struct elastio_snap_cow_header *disk)
{
	disk->magic = cpu_to_le32(magic);
	disk->flags = cpu_to_le32(header->flags);
	disk->fpos = cpu_to_le64(header->next_block);
	disk->fsize = cpu_to_le64(header->size);
	disk->seqid = cpu_to_le64(header->seqid);
	memcpy(disk->uuid, header->uuid, sizeof(disk->uuid));
	disk->version = cpu_to_le64(ELASTIO_SNAP_COW_VERSION);
	disk->nr_changed_blocks = cpu_to_le64(header->nr_changed);
}

void esnap_header_encode(const struct esnap_header *header, void *page)
{
	memset(page, 0, ELASTIO_SNAP_HEADER_SIZE);
	encode(header, ELASTIO_SNAP_COW_MAGIC, page);
}

static u64 checksum(const void *page, const u8 uuid[16])
{
	siphash_key_t key = key_of(uuid);

	return siphash(page, ELASTIO_SNAP_HEADER_SIZE, &key);
}

static void seal(struct elastio_snap_cow_raw_header *disk)
{
	disk->checksum = 0;
	disk->checksum = cpu_to_le64(checksum(disk, disk->cow.uuid));
}

void esnap_header_encode_raw(const struct esnap_raw_header *header, u64 nr_sections, void *page)
{
	struct elastio_snap_cow_raw_header *disk = page;

	memset(disk, 0, ELASTIO_SNAP_COW_GROUPS_OFFSET);
	encode(&header->common, ELASTIO_SNAP_COW_MAGIC_RAW, &disk->cow);
	disk->origin_sectors = cpu_to_le64(header->origin_sectors);
	disk->nr_extents = cpu_to_le64(header->nr_extents);
	disk->extents_digest = cpu_to_le64(header->extents_digest);
	disk->fingerprint = cpu_to_le64(header->fingerprint);
	disk->tail_entry = cpu_to_le64(header->tail_entry);
	disk->group_shift = cpu_to_le32(esnap_group_shift(nr_sections));
	seal(disk);
}

void esnap_header_set_flags(void *page, u32 flags)
{
	struct elastio_snap_cow_raw_header *disk = page;

	disk->cow.flags = cpu_to_le32(flags);
	seal(disk);
}

int esnap_header_decode_raw(void *page, u64 nr_sections, struct esnap_raw_header *header)
{
	struct elastio_snap_cow_raw_header *disk = page;
	__le64 sum = disk->checksum;
	bool sound;

	if (le32_to_cpu(disk->cow.magic) != ELASTIO_SNAP_COW_MAGIC_RAW)
		return -EINVAL;
	disk->checksum = 0;
	sound = checksum(disk, disk->cow.uuid) == le64_to_cpu(sum);
	disk->checksum = sum;
	if (!sound || le32_to_cpu(disk->group_shift) != esnap_group_shift(nr_sections))
		return -EINVAL;

	header->common.flags = le32_to_cpu(disk->cow.flags);
	header->common.next_block = le64_to_cpu(disk->cow.fpos);
	header->common.size = le64_to_cpu(disk->cow.fsize);
	header->common.seqid = le64_to_cpu(disk->cow.seqid);
	memcpy(header->common.uuid, disk->cow.uuid, sizeof(header->common.uuid));
	header->common.nr_changed = le64_to_cpu(disk->cow.nr_changed_blocks);
	header->origin_sectors = le64_to_cpu(disk->origin_sectors);
	header->nr_extents = le64_to_cpu(disk->nr_extents);
	header->extents_digest = le64_to_cpu(disk->extents_digest);
	header->fingerprint = le64_to_cpu(disk->fingerprint);
	header->tail_entry = le64_to_cpu(disk->tail_entry);
	return 0;
}

u64 esnap_header_digest(const struct esnap_map *map, const u8 uuid[16])
{
	siphash_key_t key = key_of(uuid);

	return siphash(map->by_file, map->nr * sizeof(*map->by_file), &key);
}
