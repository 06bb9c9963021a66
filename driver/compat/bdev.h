/* SPDX-License-Identifier: GPL-2.0-only */
/* Block devices, and the disks that they are on. */
#ifndef ESNAP_COMPAT_BDEV_H
#define ESNAP_COMPAT_BDEV_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <linux/sched/mm.h>
#include <linux/version.h>

/* --- finding and opening --------------------------------------------------- */

/* The number of the block device at @path. */
static inline int esnap_lookup_bdev(const char *path, dev_t *dev)
{
#if defined(HAVE_LOOKUP_BDEV_NUMBER)
	return lookup_bdev(path, dev);
#elif defined(HAVE_LOOKUP_BDEV_DEVICE)
	struct block_device *bdev = lookup_bdev(path);

	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	*dev = bdev->bd_dev;
	bdput(bdev);
	return 0;
#else
#error "no known form of: lookup_bdev_number, lookup_bdev_device"
#endif
}

/* An open block device; never exclusive, always for reading. */
struct esnap_bdev {
	struct block_device *bdev;
	struct file *file;
};

static inline int esnap_bdev_open(struct esnap_bdev *b, dev_t dev)
{
#if defined(HAVE_BDEV_FILE_OPEN)
	b->file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(b->file))
		return PTR_ERR(b->file);
	b->bdev = file_bdev(b->file);
#elif defined(HAVE_BLKDEV_GET_FMODE)
	b->bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);
	if (IS_ERR(b->bdev))
		return PTR_ERR(b->bdev);
#else
#error "no known form of: bdev_file_open, blkdev_get_fmode"
#endif
	return 0;
}

static inline void esnap_bdev_close(struct esnap_bdev *b)
{
	if (!b->bdev)
		return;
#if defined(HAVE_BDEV_FILE_OPEN)
	bdev_fput(b->file);
#else
	blkdev_put(b->bdev, FMODE_READ);
#endif
	b->bdev = NULL;
}

static inline sector_t esnap_bdev_sectors(struct block_device *bdev)
{
#if defined(HAVE_BDEV_NR_SECTORS)
	return bdev_nr_sectors(bdev);
#elif defined(HAVE_BD_INODE)
	return i_size_read(bdev->bd_inode) >> SECTOR_SHIFT;
#else
#error "no known form of: bdev_nr_sectors, bd_inode"
#endif
}

/* --- standing still -------------------------------------------------------- */

/*
 * Freezes a filesystem.  From 6.6 on a freeze has a holder: that of the kernel is
 * ours alone, whoever else freezes or thaws.  Before, only a freeze of the device
 * lets others (LVM) freeze and thaw at the same time.
 */
static inline int esnap_freeze(struct super_block *sb)
{
#if defined(HAVE_FREEZE_SUPER_OWNER)
	return freeze_super(sb, FREEZE_HOLDER_KERNEL, NULL);
#elif defined(HAVE_FREEZE_SUPER_HOLDER)
	return freeze_super(sb, FREEZE_HOLDER_KERNEL);
#elif defined(HAVE_FREEZE_BDEV_INT)
	return freeze_bdev(sb->s_bdev);
#elif defined(HAVE_FREEZE_BDEV_SUPER)
	return PTR_ERR_OR_ZERO(freeze_bdev(sb->s_bdev));
#else
#error "no known form of: freeze_super_owner, freeze_super_holder, freeze_bdev_int and _super"
#endif
}

static inline int esnap_try_thaw(struct super_block *sb)
{
#if defined(HAVE_FREEZE_SUPER_OWNER)
	return thaw_super(sb, FREEZE_HOLDER_KERNEL, NULL);
#elif defined(HAVE_FREEZE_SUPER_HOLDER)
	return thaw_super(sb, FREEZE_HOLDER_KERNEL);
#elif defined(HAVE_FREEZE_BDEV_INT)
	return thaw_bdev(sb->s_bdev);
#else
	return thaw_bdev(sb->s_bdev, sb);
#endif
}

/*
 * Undoes esnap_freeze(); an error: somebody else had thawed the filesystem.
 *
 * Where a freeze is counted in the device, it counts as frozen still then, and
 * could not be mounted any more.  To freeze the filesystem again for a thaw that
 * counts would lose against who waits to thaw it: so what was thawed is not counted.
 * SysRq-J thaws by the device, and has counted that itself: who freezes it after
 * that, by the device, is counted for himself.
 */
static inline int esnap_thaw(struct super_block *sb)
{
#if defined(HAVE_FREEZE_SUPER_OWNER) || defined(HAVE_FREEZE_SUPER_HOLDER)
	return esnap_try_thaw(sb);
#else
	struct block_device *bdev = sb->s_bdev;
	bool counted;
	int err;

	mutex_lock(&bdev->bd_fsfreeze_mutex);
	counted = bdev->bd_fsfreeze_count > 0;
	mutex_unlock(&bdev->bd_fsfreeze_mutex);
	err = esnap_try_thaw(sb);
	if (err && counted) {
		mutex_lock(&bdev->bd_fsfreeze_mutex);
		if (bdev->bd_fsfreeze_count > 0 && !--bdev->bd_fsfreeze_count) {
#if defined(HAVE_FREEZE_BDEV_INT)
			bdev->bd_fsfreeze_sb = NULL;
#endif
		}
		mutex_unlock(&bdev->bd_fsfreeze_mutex);
	}
	return err;
#endif
}

/*
 * Waits until all requests that have entered the queue have ended, for @timeout
 * jiffies at most; those that come meanwhile wait.  -ETIMEDOUT: one had not.
 */
static inline int esnap_queue_drain(struct request_queue *q, unsigned long timeout)
{
	/* What reclaim would write waits for the queue, too. */
	unsigned int noio = memalloc_noio_save();
	bool ended;

	blk_freeze_queue_start(q);
	ended = blk_mq_freeze_queue_wait_timeout(q, timeout);
#if defined(HAVE_BLK_MQ_FREEZE_MEMFLAGS)
	blk_mq_unfreeze_queue(q, noio);
#elif defined(HAVE_BLK_MQ_FREEZE_VOID)
	blk_mq_unfreeze_queue(q);
	memalloc_noio_restore(noio);
#else
#error "no known form of: blk_mq_freeze_memflags, blk_mq_freeze_void"
#endif
	return ended ? 0 : -ETIMEDOUT;
}

/* --- which disk it is ------------------------------------------------------ */

/*
 * A disk is known by its address and its sequence number.  Where disks have no
 * number, a reference keeps the address from becoming another disk's.
 */
static inline u64 esnap_diskseq(struct gendisk *disk)
{
#if defined(HAVE_DISKSEQ)
	return disk->diskseq;
#elif defined(HAVE_ALLOC_DISK_QUEUE)
	return 0;
#else
#error "no known form of: diskseq, alloc_disk_queue"
#endif
}

static inline void esnap_disk_know(struct gendisk *disk)
{
#if !defined(HAVE_DISKSEQ)
	get_device(disk_to_dev(disk));
#endif
}

static inline void esnap_disk_forget(struct gendisk *disk)
{
#if !defined(HAVE_DISKSEQ)
	put_device(disk_to_dev(disk));
#endif
}

/*
 * Can its content become another's without our knowing?  Without sequence
 * numbers, a loop device that was detached and attached anew looks as before.
 * With them nbd does, connected to another server, and so did a loop device
 * until 6.5 and its stable kernels of the time, which no probe can tell.
 */
static inline bool esnap_disk_can_be_exchanged(struct gendisk *disk)
{
#if defined(HAVE_DISKSEQ)
	bool renews_loops = LINUX_VERSION_MAJOR > 6 ||
			    (LINUX_VERSION_MAJOR == 6 &&
			     (LINUX_VERSION_PATCHLEVEL >= 5 ||
			      (LINUX_VERSION_PATCHLEVEL == 1 && LINUX_VERSION_SUBLEVEL >= 50)));

	return disk->major == NBD_MAJOR || (disk->major == LOOP_MAJOR && !renews_loops);
#else
	return disk->major == LOOP_MAJOR || disk->major == NBD_MAJOR ||
	       disk->flags & GENHD_FL_REMOVABLE;
#endif
}

/* Disks that can write pages without a bio cannot be tracked. */
static inline bool esnap_disk_bypasses_bios(struct gendisk *disk)
{
#if defined(HAVE_FOPS_RW_PAGE)
	return disk->fops->rw_page;
#else
	return false;
#endif
}

/* --- a disk of our own ----------------------------------------------------- */

/* The limits of a disk whose requests end up at the origin. */
static inline void esnap_stack_limits(struct queue_limits *limits, struct block_device *origin)
{
	blk_set_stacking_limits(limits);
#if defined(HAVE_BLK_ALLOC_DISK_LIMITS)
	queue_limits_stack_bdev(limits, origin, 0, "elastio-snap");
#if defined(BLK_FEAT_WRITE_CACHE)
	/* Nothing is written there: it has no cache to be flushed, as on older kernels. */
	limits->features &= ~(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA);
#endif
#else
	blk_stack_limits(limits, &bdev_get_queue(origin)->limits, get_start_sect(origin));
#endif
}

/* A bio-based disk, or NULL. */
static inline struct gendisk *esnap_alloc_disk(struct queue_limits *limits)
{
	struct gendisk *disk;

#if defined(HAVE_BLK_ALLOC_DISK_LIMITS)
	disk = blk_alloc_disk(limits, NUMA_NO_NODE);
	if (IS_ERR(disk))
		return NULL;
#else
#if defined(HAVE_BLK_ALLOC_DISK_NODE)
	disk = blk_alloc_disk(NUMA_NO_NODE);
	if (!disk)
		return NULL;
#elif defined(HAVE_ALLOC_DISK_QUEUE)
	disk = alloc_disk(1);
	if (!disk)
		return NULL;
	disk->queue = blk_alloc_queue(NUMA_NO_NODE);
	if (!disk->queue) {
		put_disk(disk);
		return NULL;
	}
#else
#error "no known form of: blk_alloc_disk_limits, blk_alloc_disk_node, alloc_disk_queue"
#endif
	disk->queue->limits = *limits;
#endif
	return disk;
}

static inline int esnap_add_disk(struct gendisk *disk)
{
#if defined(HAVE_ADD_DISK_INT)
	return device_add_disk(NULL, disk, NULL);
#elif defined(HAVE_ADD_DISK_VOID)
	device_add_disk(NULL, disk, NULL);
	return 0;
#else
#error "no known form of: add_disk_int, add_disk_void"
#endif
}

/* @added: esnap_add_disk() had made it known, and del_gendisk() has ended that. */
static inline void esnap_free_disk(struct gendisk *disk, bool added)
{
#if defined(HAVE_BLK_CLEANUP_DISK)
	blk_cleanup_disk(disk);
#else
#if defined(HAVE_ALLOC_DISK_QUEUE)
	blk_cleanup_queue(disk->queue);
	/* Only a disk that was added has a reference of its own on the queue. */
	if (!added)
		disk->queue = NULL;
#endif
	put_disk(disk);
#endif
}

#if defined(HAVE_GENHD_NO_PART)
#define ESNAP_DISK_FLAGS GENHD_FL_NO_PART
#elif defined(HAVE_GENHD_NO_PART_SCAN)
#define ESNAP_DISK_FLAGS GENHD_FL_NO_PART_SCAN
#else
#error "no known form of: genhd_no_part, genhd_no_part_scan"
#endif

#if defined(HAVE_GENDISK_OPEN_DISK)
#define ESNAP_DISK_OPEN(name) int name(struct gendisk *disk, blk_mode_t mode)
#define ESNAP_DISK_RELEASE(name) void name(struct gendisk *disk)
#define ESNAP_OPENED_DISK disk
#elif defined(HAVE_GENDISK_OPEN_FMODE)
#define ESNAP_DISK_OPEN(name) int name(struct block_device *bdev, fmode_t mode)
#define ESNAP_DISK_RELEASE(name) void name(struct gendisk *disk, fmode_t mode)
#define ESNAP_OPENED_DISK (bdev->bd_disk)
#else
#error "no known form of: gendisk_open_disk, gendisk_open_fmode"
#endif

#endif /* ESNAP_COMPAT_BDEV_H */
