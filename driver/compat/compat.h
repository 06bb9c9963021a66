/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One modern API for the rest of the module, whatever the kernel.  Each choice
 * rests on a probe that was compiled against this kernel (compat/probes);
 * where none of the known forms fits, the build stops.
 */
#ifndef ESNAP_COMPAT_H
#define ESNAP_COMPAT_H

#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/workqueue.h>

/* --- bios ---------------------------------------------------------------- */

#if !defined(HAVE_BIO_BDEV) || !defined(HAVE_BIO_ALLOC_BDEV)
#error "no known form of: bio_bdev, bio_alloc_bdev"
#endif

/* What a redirected submit_bio_noacct() returns. */
#if defined(HAVE_SUBMIT_BIO_VOID)
#define ESNAP_SUBMIT_RET void
#define ESNAP_SUBMIT_DONE
#else
#error "no known form of: submit_bio_void"
#endif

/* A held bio is submitted again by another task: it must wait, and not poll. */
static inline void esnap_bio_make_waiting(struct bio *bio)
{
	bio->bi_opf &= ~REQ_NOWAIT;
#if defined(HAVE_BIO_CLEAR_POLLED)
	bio_clear_polled(bio);
#else
#error "no known form of: bio_clear_polled"
#endif
}

/* First sector of the bio, counted from the start of its disk. */
static inline sector_t esnap_bio_disk_sector(struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;

	/* A remapped bio still names the partition, but its sector is absolute. */
	if (!bio_flagged(bio, BIO_REMAPPED))
		sector += bio->bi_bdev->bd_start_sect;
	return sector;
}

/* --- ftrace -------------------------------------------------------------- */

#if !defined(HAVE_FTRACE_REGS)
#error "no known form of: ftrace_regs"
#endif

#if defined(HAVE_FTRACE_REGS_SET_IP)
#define ESNAP_FTRACE_FLAGS 0
#define esnap_ftrace_arg0(fregs) ftrace_regs_get_argument(fregs, 0)
#define esnap_ftrace_set_ip(fregs, ip) \
	ftrace_regs_set_instruction_pointer(fregs, ip)
#elif defined(HAVE_FTRACE_IP_SET)
#define ESNAP_FTRACE_FLAGS FTRACE_OPS_FL_SAVE_REGS
#define esnap_ftrace_arg0(fregs) \
	regs_get_kernel_argument(ftrace_get_regs(fregs), 0)
#define esnap_ftrace_set_ip(fregs, ip) ftrace_instruction_pointer_set(fregs, ip)
#else
#error "no known form of: ftrace_regs_set_ip, ftrace_ip_set"
#endif

/* --- workqueues ---------------------------------------------------------- */

#if defined(HAVE_WQ_PERCPU)
#define ESNAP_WQ_PERCPU WQ_PERCPU
#else
#define ESNAP_WQ_PERCPU 0
#endif

/* --- block devices ------------------------------------------------------- */

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

#if defined(HAVE_BDEV_FREEZE)
#define esnap_bdev_freeze(bdev) bdev_freeze(bdev)
#define esnap_bdev_thaw(bdev) bdev_thaw(bdev)
#elif defined(HAVE_FREEZE_BDEV_INT)
#define esnap_bdev_freeze(bdev) freeze_bdev(bdev)
#define esnap_bdev_thaw(bdev) thaw_bdev(bdev)
#else
#error "no known form of: bdev_freeze, freeze_bdev_int"
#endif

/* Waits until all requests that have entered the queue have ended. */
static inline void esnap_queue_drain(struct request_queue *q)
{
#if defined(HAVE_BLK_MQ_FREEZE_MEMFLAGS)
	blk_mq_unfreeze_queue(q, blk_mq_freeze_queue(q));
#elif defined(HAVE_BLK_MQ_FREEZE_VOID)
	blk_mq_freeze_queue(q);
	blk_mq_unfreeze_queue(q);
#else
#error "no known form of: blk_mq_freeze_memflags, blk_mq_freeze_void"
#endif
}

static inline u64 esnap_diskseq(struct gendisk *disk)
{
#if defined(HAVE_DISKSEQ)
	return disk->diskseq;
#else
#error "no known form of: diskseq"
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

/* A bio-based disk with the limits of the origin's. */
static inline struct gendisk *esnap_alloc_disk(struct block_device *origin)
{
	struct queue_limits limits;
	struct gendisk *disk;

	blk_set_stacking_limits(&limits);
#if defined(HAVE_BLK_ALLOC_DISK_LIMITS)
	queue_limits_stack_bdev(&limits, origin, 0, "elastio-snap");
	disk = blk_alloc_disk(&limits, NUMA_NO_NODE);
	if (IS_ERR(disk))
		return NULL;
#elif defined(HAVE_BLK_ALLOC_DISK_NODE)
	disk = blk_alloc_disk(NUMA_NO_NODE);
	if (!disk)
		return NULL;
	blk_stack_limits(&limits, &bdev_get_queue(origin)->limits,
			 get_start_sect(origin));
	disk->queue->limits = limits;
#else
#error "no known form of: blk_alloc_disk_limits, blk_alloc_disk_node"
#endif
	return disk;
}

#if defined(HAVE_GENHD_NO_PART)
#define ESNAP_DISK_FLAGS GENHD_FL_NO_PART
#else
#error "no known form of: genhd_no_part"
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

/* Is there the older way to mount a device, too? */
#if defined(HAVE_MOUNT_BDEV)
#define ESNAP_MOUNT_BDEV
#endif

/* --- filesystem ---------------------------------------------------------- */

#if defined(HAVE_MNT_IDMAP)
#define ESNAP_IDMAP (&nop_mnt_idmap)
#elif defined(HAVE_MNT_USERNS)
#define ESNAP_IDMAP (&init_user_ns)
#else
#error "no known form of: mnt_idmap, mnt_userns"
#endif

#if defined(HAVE_FILE_KATTR)
#define ESNAP_FILEATTR struct file_kattr
#elif defined(HAVE_FILEATTR)
#define ESNAP_FILEATTR struct fileattr
#else
#error "no known form of: file_kattr, fileattr"
#endif

/* What is called @name in @dir, or -ENOENT; by the caller's rights, without a mount. */
static inline struct dentry *esnap_lookup_child(struct dentry *dir, const char *name, int len)
{
#if defined(HAVE_LOOKUP_NOPERM)
	return lookup_noperm_positive_unlocked(&QSTR_LEN(name, len), dir);
#elif defined(HAVE_LOOKUP_POSITIVE)
	return lookup_positive_unlocked(name, dir, len);
#else
#error "no known form of: lookup_noperm, lookup_positive"
#endif
}

#endif /* ESNAP_COMPAT_H */
