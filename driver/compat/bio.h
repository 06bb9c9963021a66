/* SPDX-License-Identifier: GPL-2.0-only */
/* Bios: where they go, how they are made, what submitting them returns. */
#ifndef ESNAP_COMPAT_BIO_H
#define ESNAP_COMPAT_BIO_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/rcupdate.h>

#if !defined(HAVE_BLK_OPF_T)
#define blk_opf_t unsigned int
#endif

#if defined(HAVE_BIO_MAX_PAGES)
#define BIO_MAX_VECS BIO_MAX_PAGES
#elif !defined(HAVE_BIO_MAX_VECS)
#error "no known form of: bio_max_vecs, bio_max_pages"
#endif

/* What a redirected submit_bio_noacct(), or a disk's submit_bio, returns. */
#if defined(HAVE_SUBMIT_BIO_VOID)
#define ESNAP_SUBMIT_RET void
#define ESNAP_SUBMIT_DONE
#elif defined(HAVE_SUBMIT_BIO_COOKIE)
#define ESNAP_SUBMIT_RET blk_qc_t
#define ESNAP_SUBMIT_DONE BLK_QC_T_NONE
#else
#error "no known form of: submit_bio_void, submit_bio_cookie"
#endif

/* A held bio is submitted again by another task: it must wait, and not poll. */
static inline void esnap_bio_make_waiting(struct bio *bio)
{
	bio->bi_opf &= ~REQ_NOWAIT;
#if defined(HAVE_BIO_CLEAR_POLLED)
	bio_clear_polled(bio);
#elif defined(HAVE_BIO_HIPRI)
	bio->bi_opf &= ~REQ_HIPRI;
#else
#error "no known form of: bio_clear_polled, bio_hipri"
#endif
}

/* --- where a bio goes ------------------------------------------------------ */

#if defined(HAVE_BIO_BDEV)

/* What a bio can be sent to. */
struct esnap_target {
	struct block_device *bdev;
};

static inline struct esnap_target esnap_target(struct block_device *bdev)
{
	return (struct esnap_target){ bdev };
}

/* The whole disk that @bio goes to; good for as long as the bio is on its way. */
static inline struct esnap_target esnap_target_disk_of(struct bio *bio)
{
	return (struct esnap_target){ bdev_whole(bio->bi_bdev) };
}

static inline struct gendisk *esnap_target_gendisk(struct esnap_target target)
{
	return target.bdev->bd_disk;
}

static inline struct gendisk *esnap_bio_disk(struct bio *bio)
{
	return bio->bi_bdev->bd_disk;
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

/* The sectors of the device that the bio goes to, if that is @dev; or 0. */
static inline sector_t esnap_bio_sectors_of(struct bio *bio, dev_t dev)
{
	return bio->bi_bdev->bd_dev == dev ? esnap_bdev_sectors(bio->bi_bdev) : 0;
}

#elif defined(HAVE_BIO_DISK)

struct esnap_target {
	struct gendisk *disk;
	u8 partno;
};

static inline struct esnap_target esnap_target(struct block_device *bdev)
{
	return (struct esnap_target){ bdev->bd_disk, bdev->bd_partno };
}

static inline struct esnap_target esnap_target_disk_of(struct bio *bio)
{
	return (struct esnap_target){ bio->bi_disk, 0 };
}

static inline struct gendisk *esnap_target_gendisk(struct esnap_target target)
{
	return target.disk;
}

static inline struct gendisk *esnap_bio_disk(struct bio *bio)
{
	return bio->bi_disk;
}

/* The partition, or the disk as a whole, that the bio goes to; under RCU. */
static inline struct hd_struct *esnap_bio_part(struct bio *bio)
{
	struct disk_part_tbl *table = rcu_dereference(bio->bi_disk->part_tbl);

	return bio->bi_partno < table->len ? rcu_dereference(table->part[bio->bi_partno]) : NULL;
}

static inline sector_t esnap_bio_disk_sector(struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;
	struct hd_struct *part;

	/* A remapped bio goes to number 0, which is the disk. */
	rcu_read_lock();
	part = bio->bi_partno ? esnap_bio_part(bio) : NULL;
	if (part)
		sector += part->start_sect;
	rcu_read_unlock();
	return sector;
}

static inline sector_t esnap_bio_sectors_of(struct bio *bio, dev_t dev)
{
	sector_t nr = 0;
	struct hd_struct *part;

	rcu_read_lock();
	part = esnap_bio_part(bio);
	if (part && part_devt(part) == dev)
		nr = READ_ONCE(part->nr_sects);
	rcu_read_unlock();
	return nr;
}

#else
#error "no known form of: bio_bdev, bio_disk"
#endif

/* Would the device that the bio goes to take a discard? */
static inline bool esnap_bio_can_discard(struct bio *bio)
{
#if defined(HAVE_BDEV_MAX_DISCARD)
	return bdev_max_discard_sectors(bio->bi_bdev);
#elif defined(HAVE_QUEUE_DISCARD)
	return blk_queue_discard(esnap_bio_disk(bio)->queue);
#else
#error "no known form of: bdev_max_discard, queue_discard"
#endif
}

/* --- making one ------------------------------------------------------------ */

#if !defined(HAVE_BIO_BDEV)
static inline void esnap_bio_aim(struct bio *bio, struct esnap_target target)
{
	bio->bi_disk = target.disk;
	bio->bi_partno = target.partno;
	bio_clear_flag(bio, BIO_THROTTLED);
	bio_associate_blkg(bio);
}
#elif !defined(HAVE_BIO_ALLOC_BDEV)
#define esnap_bio_aim(bio, target) bio_set_dev(bio, (target).bdev)
#endif

/* NULL only where @gfp does not let it wait for memory. */
static inline struct bio *esnap_bio_alloc(struct esnap_target target, unsigned short nr_vecs,
					  blk_opf_t op, gfp_t gfp, struct bio_set *bs)
{
#if defined(HAVE_BIO_ALLOC_BDEV)
	return bio_alloc_bioset(target.bdev, nr_vecs, op, gfp, bs);
#elif defined(HAVE_BIO_ALLOC_GFP)
	struct bio *bio = bio_alloc_bioset(gfp, nr_vecs, bs);

	if (bio) {
		esnap_bio_aim(bio, target);
		bio->bi_opf = op;
	}
	return bio;
#else
#error "no known form of: bio_alloc_bdev, bio_alloc_gfp"
#endif
}

/* In memory of the caller's, who gives it to a cgroup and ends it with bio_uninit(). */
static inline void esnap_bio_init(struct bio *bio, struct esnap_target target,
				  struct bio_vec *vecs, unsigned short nr_vecs, blk_opf_t op)
{
#if defined(HAVE_BIO_INIT_BDEV)
	bio_init(bio, NULL, vecs, nr_vecs, op);
	bio->bi_bdev = target.bdev;
#elif defined(HAVE_BIO_INIT_VECS)
	bio_init(bio, vecs, nr_vecs);
	esnap_bio_aim(bio, target);
	bio->bi_opf = op;
#else
#error "no known form of: bio_init_bdev, bio_init_vecs"
#endif
}

/* May wait for memory. */
static inline struct bio *esnap_bio_clone(struct block_device *bdev, struct bio *bio,
					  struct bio_set *bs)
{
#if defined(HAVE_BIO_ALLOC_CLONE)
	return bio_alloc_clone(bdev, bio, GFP_NOIO, bs);
#elif defined(HAVE_BIO_CLONE_FAST)
	struct bio *clone = bio_clone_fast(bio, GFP_NOIO, bs);

	bio_set_dev(clone, bdev);
	return clone;
#else
#error "no known form of: bio_alloc_clone, bio_clone_fast"
#endif
}

#endif /* ESNAP_COMPAT_BIO_H */
