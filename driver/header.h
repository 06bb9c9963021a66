/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_HEADER_H
#define ESNAP_HEADER_H

#include "esnap.h"

struct esnap_map;

/*
 * What the header of a COW file says, in CPU order.
 */
struct esnap_header {
	u32 flags;
	u64 next_block;
	u64 size;
	u64 seqid;
	u8 uuid[16];
	u64 nr_changed;
};

/* What only a raw header says; see struct elastio_snap_cow_raw_header. */
struct esnap_raw_header {
	struct esnap_header common;
	u64 origin_sectors;
	u64 nr_extents;
	u64 extents_digest;
	u64 fingerprint;
	u64 tail_entry;
};

/*
 * The index is told by groups of sections, as many to a group as it takes to
 * describe all of them in the header: log2 of that number.
 */
unsigned int esnap_group_shift(u64 nr_sections);

/* The bitmap of groups in a page with a raw header; for test_bit_le() and the like. */
static inline void *esnap_header_groups(void *page)
{
	return page + ELASTIO_SNAP_COW_GROUPS_OFFSET;
}

/* A page as user space reads it. */
void esnap_header_encode(const struct esnap_header *header, void *page);

/* A raw header, all but its bitmap of groups, which must be in the page already. */
void esnap_header_encode_raw(const struct esnap_raw_header *header, u64 nr_sections, void *page);

/* The same header with other flags. */
void esnap_header_set_flags(void *page, u32 flags);

/* -EINVAL: it is no raw header for an index of so many sections, or is damaged. */
int esnap_header_decode_raw(void *page, u64 nr_sections, struct esnap_raw_header *header);

/* Where the extents of a file are, in 64 bits. */
u64 esnap_header_digest(const struct esnap_map *map, const u8 uuid[16]);

#endif /* ESNAP_HEADER_H */
