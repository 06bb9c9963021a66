// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a filesystem was written while nobody looked.
 *
 * ext2, ext3 and ext4 write their superblock whenever they are mounted for
 * writing, checked or tuned.  When their journal has been replayed, its own
 * superblock says so first, so that a machine that fails right then does not
 * replay it again: while there is one to replay, that one is looked at, too.
 * XFS need not write its superblock, but every transaction moves the head of its
 * log, and every mount writes records that tell where the tail is from the head
 * on: others than the mount before, as the log has moved since.  xfs_repair does
 * neither, but makes the headers of all allocation groups anew, without the number
 * of the log's record that a mounted filesystem writes into them.  It wants a clean
 * log.  With one that is not they may still be on their way to the disk.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/siphash.h>

#include "esnap.h"
#include "fingerprint.h"

#define EXT_SUPER_OFFSET 1024
#define EXT_SUPER_SIZE 1024
#define EXT_MAGIC_OFFSET (EXT_SUPER_OFFSET + 56)
#define EXT_MAGIC 0xef53
#define EXT_HAS_JOURNAL 0x4
#define EXT_NEEDS_RECOVERY 0x4
#define EXT_64BIT 0x80
#define EXT_INODE_HAS_EXTENTS 0x80000
#define EXT_EXTENT_MAGIC 0xf30a
#define EXT_MAX_DEPTH 5

#define JOURNAL_SUPER_SIZE 1024
#define JOURNAL_MAGIC 0xc03b3998

#define XFS_SUPER_SIZE 512
#define XFS_MAGIC 0x58465342
#define XFS_LOG_MAGIC 0xfeedbabe
#define XFS_LOG_HEADER_SPAN 32768
/* The headers and the data of a record of the log, at most. */
#define XFS_LOG_MAX_RECORD (8 + (256 << 10) / SECTOR_SIZE)
#define XFS_LOG_UNMOUNT 0x20
/* More are too many to be read while somebody waits for an unmount. */
#define XFS_MAX_GROUPS 1024

/* Not a secret: a digest that every kernel has. */
static const siphash_key_t key = { { 0x656c696f2d736e61ULL, 0x7066696e67657270ULL } };

/* From where the blocks are read, and into what. */
struct reader {
	struct block_device *bdev;
	struct bio_set *bios;
	struct page *page;
};

static int read_block(const struct reader *r, u64 sector)
{
	struct bio *bio = esnap_bio_alloc(esnap_target(r->bdev), 1, REQ_OP_READ | REQ_SYNC,
					  GFP_NOIO, r->bios);
	int err;

	bio->bi_iter.bi_sector = sector;
	__bio_add_page(bio, r->page, ELASTIO_SNAP_BLOCK_SIZE, 0);
	err = submit_bio_wait(bio);
	bio_put(bio);
	return err;
}

/* --- XFS ------------------------------------------------------------------- */

/* Where things are, as the superblock of XFS tells, in sectors. */
struct xfs_layout {
	u64 log;
	u64 nr_log;
	u64 group;
	u32 nr_groups;
	/* The filesystem's own sector. */
	u32 unit;
};

/* False: there is something that does not tell enough. */
static bool xfs_layout_of(const void *super, struct xfs_layout *xfs)
{
	u64 block = be64_to_cpup(super + 48);
	u32 ag_blocks = be32_to_cpup(super + 84);
	u32 nr = be32_to_cpup(super + 96);
	u8 block_log = *(const u8 *)(super + 120);
	u8 ag_log = *(const u8 *)(super + 124);
	unsigned int to_sectors = block_log - SECTOR_SHIFT;

	/* Headers of groups have the number of a record only from version 5 on. */
	if ((be16_to_cpup(super + 100) & 0xf) < 5)
		return false;
	/* A log on another device says nothing about this one. */
	if (!block || block_log < SECTOR_SHIFT || block_log > 16 || ag_log > 31)
		return false;
	xfs->log = ((block >> ag_log) * ag_blocks + (block & ((1ULL << ag_log) - 1)))
		   << to_sectors;
	xfs->nr_log = (u64)nr << to_sectors;
	xfs->group = (u64)ag_blocks << to_sectors;
	xfs->nr_groups = be32_to_cpup(super + 88);
	xfs->unit = be16_to_cpup(super + 102) >> SECTOR_SHIFT;
	return xfs->nr_log >= 2 && xfs->nr_groups <= XFS_MAX_GROUPS;
}

/* A sector of the log, or an error. */
static const void *log_sector(const struct reader *r, const struct xfs_layout *xfs, u64 sector)
{
	u64 offset = sector % ELASTIO_SNAP_BLOCK_SECTORS;
	int err = read_block(r, xfs->log + sector - offset);

	return err ? ERR_PTR(err) : page_address(r->page) + (offset << SECTOR_SHIFT);
}

/* The number of the round in which a sector of the log was written, and a digest of it. */
static int log_cycle(const struct reader *r, const struct xfs_layout *xfs, u64 sector, u32 *cycle,
		     u64 *digest)
{
	const void *data = log_sector(r, xfs, sector);

	if (IS_ERR(data))
		return PTR_ERR(data);
	*cycle = be32_to_cpup(data);
	if (*cycle == XFS_LOG_MAGIC)
		*cycle = be32_to_cpup(data + 4);
	*digest = siphash(data, SECTOR_SIZE, &key);
	return 0;
}

/*
 * The log is a ring; each time around its sectors get the next number.  So the
 * head is where the number of the first sector ends.
 */
static int xfs_log_digest(const struct reader *r, const struct xfs_layout *xfs, u64 *head,
			  u64 *result)
{
	u64 low = 0, high = xfs->nr_log, before, at, digest;
	u32 first, cycle;
	int err;

	err = log_cycle(r, xfs, 0, &first, &before);
	if (err)
		return err;
	while (high - low > 1) {
		u64 mid = low + (high - low) / 2;

		err = log_cycle(r, xfs, mid, &cycle, &digest);
		if (err)
			return err;
		if (cycle == first) {
			low = mid;
			before = digest;
		} else {
			high = mid;
		}
	}
	*head = high % xfs->nr_log;
	err = log_cycle(r, xfs, *head, &cycle, &at);
	*result = siphash_3u64((u64)first << 32 | high, before, at, &key);
	return err;
}

/* 1: the last record of the log says that the filesystem was unmounted. */
static int xfs_log_is_clean(const struct reader *r, const struct xfs_layout *xfs, u64 head)
{
	u64 limit = min_t(u64, xfs->nr_log, XFS_LOG_MAX_RECORD);
	const void *data;
	u64 back;

	for (back = 1; back <= limit; back++) {
		u64 sector = (head + xfs->nr_log - back) % xfs->nr_log;
		u32 nr = 1, size;

		data = log_sector(r, xfs, sector);
		if (IS_ERR(data))
			return PTR_ERR(data);
		if (be32_to_cpup(data) != XFS_LOG_MAGIC)
			continue;
		if (be32_to_cpup(data + 40) != 1)
			return 0;
		size = be32_to_cpup(data + 320);
		if (be32_to_cpup(data + 8) & 2 && size > XFS_LOG_HEADER_SPAN)
			nr = DIV_ROUND_UP(size, XFS_LOG_HEADER_SPAN);
		data = log_sector(r, xfs, (sector + nr) % xfs->nr_log);
		if (IS_ERR(data))
			return PTR_ERR(data);
		return !!(*(const u8 *)(data + 9) & XFS_LOG_UNMOUNT);
	}
	return 0;
}

/* Of the headers of free space and inodes of each group. */
static int xfs_groups_digest(const struct reader *r, const struct xfs_layout *xfs, u64 *digest)
{
	unsigned int header;
	u32 i;
	int err;

	for (i = 0; i < xfs->nr_groups; i++) {
		for (header = 1; header <= 2; header++) {
			u64 offset = header * xfs->unit % ELASTIO_SNAP_BLOCK_SECTORS;

			/* The second one is most often in the same block. */
			err = header == 2 && offset ? 0 :
			      read_block(r, i * xfs->group + header * xfs->unit - offset);
			if (err)
				return err;
			*digest = siphash_2u64(*digest, siphash(page_address(r->page) +
								(offset << SECTOR_SHIFT),
								SECTOR_SIZE, &key), &key);
		}
	}
	return 0;
}

static int xfs_fingerprint(const struct reader *r, u64 *fingerprint)
{
	u64 super = siphash(page_address(r->page), XFS_SUPER_SIZE, &key);
	struct xfs_layout xfs;
	u64 head, log, digest;
	int err;

	if (!xfs_layout_of(page_address(r->page), &xfs))
		return 0;
	err = xfs_log_digest(r, &xfs, &head, &log);
	if (err)
		return err;
	digest = siphash_2u64(super, log, &key);
	err = xfs_log_is_clean(r, &xfs, head);
	if (err > 0)
		err = xfs_groups_digest(r, &xfs, &digest);
	if (!err)
		*fingerprint = digest;
	return err;
}

/* --- ext2, ext3, ext4 ------------------------------------------------------ */

/* What the superblock tells of where the journal's inode is. */
struct ext_layout {
	unsigned int block_size;
	unsigned int inode_size;
	u32 inodes_per_group;
	u32 journal_inode;
	bool has_64bit;
};

/* False: the journal is elsewhere, or this is no superblock. */
static bool ext_layout_of(const void *super, struct ext_layout *ext)
{
	u32 block_log = le32_to_cpup(super + 24);

	ext->inodes_per_group = le32_to_cpup(super + 40);
	ext->inode_size = le32_to_cpup(super + 76) ? le16_to_cpup(super + 88) : 128;
	ext->has_64bit = le32_to_cpup(super + 96) & EXT_64BIT && le16_to_cpup(super + 254) >= 64;
	ext->journal_inode = le32_to_cpup(super + 224);
	if (block_log > ESNAP_BLOCK_SHIFT - 10 || ext->inode_size < 128 ||
	    ext->inode_size & (ext->inode_size - 1))
		return false;
	ext->block_size = 1024U << block_log;
	/* It is the eighth, or, made while mounted, any one until the next check. */
	return ext->inode_size <= ext->block_size && ext->journal_inode &&
	       ext->journal_inode <= ext->inodes_per_group;
}

/* What is at @offset of @block of the filesystem; NULL, and no error: that is outside. */
static const void *ext_read(const struct reader *r, const struct ext_layout *ext, u64 block,
			    u64 offset, int *err)
{
	u64 nr_blocks = esnap_bdev_sectors(r->bdev) / (ext->block_size >> SECTOR_SHIFT);
	u64 at;

	*err = 0;
	if (block >= nr_blocks || offset / ext->block_size >= nr_blocks - block)
		return NULL;
	at = block * ext->block_size + offset;
	*err = read_block(r, round_down(at, ELASTIO_SNAP_BLOCK_SIZE) >> SECTOR_SHIFT);
	return *err ? NULL : page_address(r->page) + at % ELASTIO_SNAP_BLOCK_SIZE;
}

/* The first block of the journal, 0: not to be found. */
static int ext_journal_start(const struct reader *r, const struct ext_layout *ext, u64 *start)
{
	unsigned int depth, steps;
	const void *at;
	u64 table;
	int err;

	*start = 0;
	/* The first group is told of in the block behind the superblock's. */
	at = ext_read(r, ext, 1024 / ext->block_size + 1, 0, &err);
	if (!at)
		return err;
	table = le32_to_cpup(at + 8);
	if (ext->has_64bit)
		table |= (u64)le32_to_cpup(at + 40) << 32;
	at = ext_read(r, ext, table, (u64)(ext->journal_inode - 1) * ext->inode_size, &err);
	if (!at)
		return err;
	if (!(le32_to_cpup(at + 32) & EXT_INODE_HAS_EXTENTS)) {
		*start = le32_to_cpup(at + 40);
		return 0;
	}
	at += 40;
	for (steps = 0; steps <= EXT_MAX_DEPTH; steps++) {
		if (le16_to_cpup(at) != EXT_EXTENT_MAGIC || !le16_to_cpup(at + 2))
			return 0;
		depth = le16_to_cpup(at + 6);
		if (!depth) {
			*start = (u64)le16_to_cpup(at + 18) << 32 | le32_to_cpup(at + 20);
			return 0;
		}
		at = ext_read(r, ext, (u64)le16_to_cpup(at + 20) << 32 | le32_to_cpup(at + 16),
			      0, &err);
		if (!at)
			return err;
	}
	return 0;
}

static int ext_fingerprint(const struct reader *r, u64 *fingerprint)
{
	const void *super = page_address(r->page) + EXT_SUPER_OFFSET;
	u64 digest = siphash(super, EXT_SUPER_SIZE, &key);
	bool replays = le32_to_cpup(super + 92) & EXT_HAS_JOURNAL &&
		       le32_to_cpup(super + 96) & EXT_NEEDS_RECOVERY;
	struct ext_layout ext;
	const void *journal;
	u64 start;
	int err;

	if (!replays) {
		*fingerprint = digest;
		return 0;
	}
	if (!ext_layout_of(super, &ext))
		return 0;
	err = ext_journal_start(r, &ext, &start);
	if (err || !start)
		return err;
	journal = ext_read(r, &ext, start, 0, &err);
	if (journal && be32_to_cpup(journal) == JOURNAL_MAGIC)
		*fingerprint = siphash_2u64(digest, siphash(journal, JOURNAL_SUPER_SIZE, &key),
					    &key);
	return err;
}

int esnap_fingerprint(struct block_device *bdev, struct bio_set *bios, struct page *page,
		      u64 *fingerprint)
{
	struct reader r = { .bdev = bdev, .bios = bios, .page = page };
	void *data = page_address(page);
	int err;

	*fingerprint = 0;
	err = read_block(&r, 0);
	if (!err && be32_to_cpup(data) == XFS_MAGIC)
		err = xfs_fingerprint(&r, fingerprint);
	else if (!err && le16_to_cpup(data + EXT_MAGIC_OFFSET) == EXT_MAGIC)
		err = ext_fingerprint(&r, fingerprint);
	return err;
}
