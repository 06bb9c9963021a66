// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a filesystem was written while nobody looked.
 *
 * ext2, ext3 and ext4 write their superblock whenever they are mounted for
 * writing, recovered, checked or tuned.  XFS need not, but every transaction moves
 * the head of its log, and every mount writes records that tell where the tail is
 * from the head on: others than the mount before, as the log has moved since.
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

#define XFS_SUPER_SIZE 512
#define XFS_MAGIC 0x58465342
#define XFS_LOG_MAGIC 0xfeedbabe

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

/* Where the log is, as the superblock of XFS tells, in sectors. */
struct xfs_log {
	u64 start;
	u64 nr;
};

static bool xfs_log_of(const void *super, struct xfs_log *log)
{
	u64 block = be64_to_cpup(super + 48);
	u32 ag_blocks = be32_to_cpup(super + 84);
	u32 nr = be32_to_cpup(super + 96);
	u8 block_log = *(const u8 *)(super + 120);
	u8 ag_log = *(const u8 *)(super + 124);
	unsigned int to_sectors = block_log - SECTOR_SHIFT;

	/* A log on another device says nothing about this one. */
	if (!block || block_log < SECTOR_SHIFT || block_log > 16 || ag_log > 31)
		return false;
	log->start = ((block >> ag_log) * ag_blocks + (block & ((1ULL << ag_log) - 1)))
		     << to_sectors;
	log->nr = (u64)nr << to_sectors;
	return log->nr >= 2;
}

/* The number of the round in which a sector of the log was written, and a digest of it. */
static int log_sector(const struct reader *r, const struct xfs_log *log, u64 sector, u32 *cycle,
		      u64 *digest)
{
	u64 offset = sector % ELASTIO_SNAP_BLOCK_SECTORS;
	const void *data;
	int err;

	err = read_block(r, log->start + sector - offset);
	if (err)
		return err;
	data = page_address(r->page) + (offset << SECTOR_SHIFT);
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
static int xfs_fingerprint(const struct reader *r, u64 *fingerprint)
{
	u64 super = siphash(page_address(r->page), XFS_SUPER_SIZE, &key);
	u64 low = 0, high, before, at, digest;
	struct xfs_log log;
	u32 first, cycle;
	int err;

	if (!xfs_log_of(page_address(r->page), &log))
		return 0;
	err = log_sector(r, &log, 0, &first, &before);
	if (err)
		return err;
	high = log.nr;
	while (high - low > 1) {
		u64 mid = low + (high - low) / 2;

		err = log_sector(r, &log, mid, &cycle, &digest);
		if (err)
			return err;
		if (cycle == first) {
			low = mid;
			before = digest;
		} else {
			high = mid;
		}
	}
	err = log_sector(r, &log, high % log.nr, &cycle, &at);
	if (err)
		return err;
	*fingerprint = siphash_4u64(super, (u64)first << 32 | high, before, at, &key);
	return 0;
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
		*fingerprint = siphash(data + EXT_SUPER_OFFSET, EXT_SUPER_SIZE, &key);
	return err;
}
