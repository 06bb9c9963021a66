// SPDX-License-Identifier: GPL-2.0-only
/*
 * The image: a read-only block device that shows the origin at the instant.
 *
 * A read goes to the origin for what is not saved, and for the rest to what is
 * saved in memory or in the store.  What came from the origin is looked at
 * again when the read has ended: a block that was saved meanwhile may have been
 * overwritten under the read, so the read is done once more.  This ends, since
 * saved blocks stay saved.
 */
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/mempool.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "fault.h"
#include "image.h"
#include "tracker.h"

#define READ_RESERVE 16
#define CLONE_RESERVE 64
#define CLOSE_WAIT_MS 500
#define CLOSE_STEP_MS 5

struct esnap_image {
	struct esnap_epoch *epoch;
	struct gendisk *disk;
	bool announced;

	/* Under openers_lock. */
	unsigned int openers;
	bool dying;

	atomic_t inflight;
	wait_queue_head_t idle;
	struct workqueue_struct *wq;
	struct bio_set clones;
	mempool_t reads;
};

/* One read of the image. */
struct image_read {
	struct esnap_image *img;
	struct bio *bio;
	/* The bio's own iterator as it came; nobody else may change it. */
	struct bvec_iter iter;
	atomic_t refs;
	blk_status_t status;
	/* Another medium was in the disk when a part of it had ended. */
	bool exchanged;
	bool redo;
	bool uses_store;
	struct work_struct work;
};

/* The part of a read that one clone does. */
struct piece {
	struct image_read *read;
	u64 first;
	u64 last;
	bool from_origin;
	struct bio clone;
};

/*
 * Of all images, and of the pointer that a disk has to its image: until 5.12 an
 * opener who has found the disk comes to image_open() even when the disk is
 * deleted meanwhile, and the image freed.
 */
static DEFINE_SPINLOCK(openers_lock);

static int image_major;
static struct kmem_cache *read_cache;

int esnap_image_module_init(void)
{
	read_cache = KMEM_CACHE(image_read, 0);
	if (!read_cache)
		return -ENOMEM;
	image_major = register_blkdev(0, ELASTIO_SNAP_IMAGE_NAME);
	if (image_major < 0) {
		kmem_cache_destroy(read_cache);
		return image_major;
	}
	return 0;
}

void esnap_image_module_exit(void)
{
	unregister_blkdev(image_major, ELASTIO_SNAP_IMAGE_NAME);
	kmem_cache_destroy(read_cache);
}

/* --- the end of a read ----------------------------------------------------- */

/* EBUSY (with direct I/O) is what the contract says while the origin is not mounted. */
static blk_status_t unreadable(const struct esnap_epoch *ep)
{
	return READ_ONCE(ep->mode) == ESNAP_SNAPSHOT ? BLK_STS_DEV_RESOURCE : BLK_STS_IOERR;
}

/* Are zeros the answer to a read that ends so, of a snapshot that has failed? */
static bool reads_as_zeros(const struct esnap_epoch *ep, blk_status_t status)
{
	return status && status != BLK_STS_DEV_RESOURCE && ep->tracker->ignore_errors;
}

/* Copies @len bytes to the read's pages from byte @at on; NULL: zeros. */
static void fill(struct image_read *rd, unsigned int at, const void *data, unsigned int len)
{
	struct bvec_iter iter = rd->iter;

	bio_advance_iter(rd->bio, &iter, at);
	while (len) {
		struct bio_vec bv = bio_iter_iovec(rd->bio, iter);
		unsigned int n = min(len, bv.bv_len);
		void *to = kmap_local_page(bv.bv_page);

		if (data) {
			memcpy(to + bv.bv_offset, data, n);
			data += n;
		} else {
			memset(to + bv.bv_offset, 0, n);
		}
		kunmap_local(to);
		flush_dcache_page(bv.bv_page);
		bio_advance_iter(rd->bio, &iter, n);
		len -= n;
	}
}

/* What the store has in these sectors is nobody's business. */
static void hide_store(struct image_read *rd)
{
	struct esnap_store *st = &rd->img->epoch->store;
	u64 from = rd->iter.bi_sector, sector = from;
	u64 to = from + (rd->iter.bi_size >> SECTOR_SHIFT);

	while (sector < to) {
		u64 run;

		sector = esnap_store_next_own(st, sector, to - sector, &run);
		if (!run)
			break;
		fill(rd, (sector - from) << SECTOR_SHIFT, NULL, run << SECTOR_SHIFT);
		sector += run;
	}
}

/*
 * Before the reader has zeros, whoever asks must see that they are no data: the
 * snapshot has failed then.  But a file that is closed, or being closed, would go on
 * saying that it is complete; close_file() waits for who has seen it open.  False:
 * it has not failed.  The tracker's disk may be gone, if it had failed before.
 */
static bool fail_openly(struct esnap_epoch *ep, const struct image_read *rd)
{
	rcu_read_lock();
	if (READ_ONCE(ep->seal) == ESNAP_OPEN) {
		if (rd->exchanged)
			esnap_fail(ep, -ENODEV, "its disk reports another medium");
		else
			esnap_fail(ep, blk_status_to_errno(rd->status),
				   "its image cannot be read, and shows zeros now");
	}
	rcu_read_unlock();
	return READ_ONCE(ep->error);
}

static void put_read(struct image_read *rd)
{
	struct esnap_image *img = rd->img;
	struct bio *bio = rd->bio;

	if (!atomic_dec_and_test(&rd->refs))
		return;
	if (rd->redo && !rd->status) {
		atomic_set(&rd->refs, 1);
		queue_work(img->wq, &rd->work);
		return;
	}
	if (reads_as_zeros(img->epoch, rd->status) && fail_openly(img->epoch, rd)) {
		fill(rd, 0, NULL, rd->iter.bi_size);
		rd->status = BLK_STS_OK;
	}
	if (!rd->status)
		hide_store(rd);
	if (rd->uses_store)
		esnap_store_put(&img->epoch->store);
	bio->bi_status = rd->status;
	mempool_free(rd, &img->reads);
	bio_endio(bio);
	/* The image is freed a grace period after the last one was seen to end. */
	rcu_read_lock();
	if (atomic_dec_and_test(&img->inflight))
		wake_up_all(&img->idle);
	rcu_read_unlock();
}

static void end_piece(struct bio *clone)
{
	struct piece *piece = container_of(clone, struct piece, clone);
	struct image_read *rd = piece->read;
	struct esnap_epoch *ep = rd->img->epoch;

	if (clone->bi_status) {
		rd->status = clone->bi_status;
	} else {
		/* The data first, then the state: see esnap_epoch_unpublish(). */
		smp_mb(); /* pairs with the barriers of marking and failing */
		if (READ_ONCE(ep->mode) != ESNAP_SNAPSHOT) {
			rd->status = BLK_STS_IOERR;
		} else if (esnap_origin_is_exchanged(ep->tracker)) {
			rd->exchanged = true;
			rd->status = BLK_STS_IOERR;
		} else if (piece->from_origin && !esnap_fault("no_second_look") &&
			 esnap_bitmap_next_set(&ep->index.changes.changed, piece->first,
					       piece->last) <= piece->last) {
			rd->redo = true;
		}
	}
	bio_put(clone);
	put_read(rd);
}

/* --- the parts of a read --------------------------------------------------- */

/* @nr sectors of the read from its sector @at on come from @sector of @bdev. */
static void submit_piece(struct image_read *rd, unsigned int at, unsigned int nr, u64 sector,
			 bool from_origin)
{
	struct esnap_image *img = rd->img;
	u64 image_sector = rd->iter.bi_sector + at;
	struct block_device *bdev = img->epoch->tracker->bdev;
	struct bio *clone = esnap_bio_clone(bdev, rd->bio, &img->clones);
	struct piece *piece = container_of(clone, struct piece, clone);

	piece->read = rd;
	piece->first = image_sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	piece->last = (image_sector + nr - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	piece->from_origin = from_origin;
	bio_trim(clone, at, nr);
	esnap_bio_make_waiting(clone);
	/* What is read ahead may fail without need, and would be the end of the snapshot. */
	clone->bi_opf &= ~(REQ_RAHEAD | REQ_FAILFAST_MASK);
	clone->bi_iter.bi_sector = sector;
	clone->bi_end_io = end_piece;
	atomic_inc(&rd->refs);
	submit_bio_noacct(clone);
}

/* From memory; returns the sectors done. */
static unsigned int read_save(struct image_read *rd, struct esnap_save *save, unsigned int at,
			      unsigned int nr)
{
	u64 sector = rd->iter.bi_sector + at;
	u64 block = sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	unsigned int offset = sector % ELASTIO_SNAP_BLOCK_SECTORS;
	void *data = kmap_local_page(esnap_save_page(save, block));

	nr = min_t(unsigned int, nr, ELASTIO_SNAP_BLOCK_SECTORS - offset);
	fill(rd, at << SECTOR_SHIFT, data + (offset << SECTOR_SHIFT), nr << SECTOR_SHIFT);
	kunmap_local(data);
	return nr;
}

/* From the store, as far as the saved blocks follow each other there. */
static int read_store(struct image_read *rd, unsigned int at, unsigned int nr)
{
	struct esnap_epoch *ep = rd->img->epoch;
	u64 sector = rd->iter.bi_sector + at;
	u64 block = sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	unsigned int offset = sector % ELASTIO_SNAP_BLOCK_SECTORS;
	unsigned int run = ELASTIO_SNAP_BLOCK_SECTORS - offset;
	u64 end = ep->cowfile.size / ELASTIO_SNAP_BLOCK_SIZE;
	u64 cow_block, after, file_sector, next;
	unsigned int done = 0;
	int err;

	err = esnap_index_lookup(&ep->index, block, &cow_block);
	if (err)
		return err;
	/* What was read from the disk may be anything. */
	if (cow_block < ep->first_data_block || cow_block >= end)
		return -EIO;
	for (after = cow_block + 1; run < nr && after < end; after++) {
		err = esnap_index_lookup(&ep->index, ++block, &next);
		if (err)
			return err;
		if (next != after)
			break;
		run += ELASTIO_SNAP_BLOCK_SECTORS;
	}
	run = min(run, nr);
	file_sector = cow_block * ELASTIO_SNAP_BLOCK_SECTORS + offset;
	while (done < run) {
		u64 n = run - done;
		u64 from = esnap_store_sector(&ep->store, file_sector + done, &n);

		submit_piece(rd, at + done, n, from, false);
		done += n;
	}
	return run;
}

/* One run of sectors from one place; returns the sectors done or an error. */
static int read_run(struct image_read *rd, unsigned int at, unsigned int nr)
{
	struct esnap_epoch *ep = rd->img->epoch;
	struct esnap_bitmap *saved = &ep->index.changes.changed;
	u64 sector = rd->iter.bi_sector + at;
	u64 block = sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	u64 last = (sector + nr - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	u64 next = esnap_bitmap_next_set(saved, block, last);
	struct esnap_save *save;

	/* One look only: between two the block may be saved, and the run be empty. */
	if (next > block) {
		if (esnap_fault("look_twice")) {
			msleep(20);
			next = esnap_bitmap_next_set(saved, block, last);
		}
		nr = min_t(u64, nr, next * ELASTIO_SNAP_BLOCK_SECTORS - sector);
		submit_piece(rd, at, nr, sector, true);
		return nr;
	}
	/* Saved: in memory, or else it has landed and the index knows it. */
	smp_rmb(); /* pairs with the marking in finish_read() */
	save = esnap_save_find(ep, block);
	if (save) {
		nr = read_save(rd, save, at, nr);
		esnap_save_put(save);
		return nr;
	}
	return read_store(rd, at, nr);
}

static void read_work(struct work_struct *work)
{
	struct image_read *rd = container_of(work, struct image_read, work);
	struct esnap_epoch *ep = rd->img->epoch;
	unsigned int nr = rd->iter.bi_size >> SECTOR_SHIFT;
	unsigned int at = 0;

	rd->redo = false;
	if (!rd->uses_store)
		rd->uses_store = esnap_store_get(&ep->store);
	while (at < nr) {
		int done = blk_status_to_errno(unreadable(ep));

		if (rd->uses_store && esnap_epoch_readable(ep))
			done = read_run(rd, at, nr - at);
		if (done < 0) {
			rd->status = errno_to_blk_status(done);
			break;
		}
		at += done;
	}
	put_read(rd);
}

static void refuse_read(const struct esnap_epoch *ep, struct bio *bio)
{
	bio->bi_status = unreadable(ep);
	if (reads_as_zeros(ep, bio->bi_status)) {
		zero_fill_bio(bio);
		bio->bi_status = BLK_STS_OK;
	}
	bio_endio(bio);
}

static void start_read(struct bio *bio)
{
	struct esnap_image *img = esnap_bio_disk(bio)->private_data;
	struct esnap_epoch *ep = img->epoch;
	u64 first = bio->bi_iter.bi_sector >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	u64 last = (bio_end_sector(bio) - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	struct image_read *rd;

	if (bio_op(bio) != REQ_OP_READ) {
		bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
		return;
	}
	if (!bio_sectors(bio)) {
		bio_endio(bio);
		return;
	}
	/* Not counted: readers that do not give up must not keep an unmount waiting. */
	if (!esnap_epoch_readable(ep)) {
		refuse_read(ep, bio);
		return;
	}
	/* Counted before the mode is looked at again: see esnap_image_quiesce(). */
	atomic_inc(&img->inflight);
	smp_mb__after_atomic(); /* pairs with the change of the mode, and with parking */
	rd = mempool_alloc(&img->reads, GFP_NOIO);
	rd->img = img;
	rd->bio = bio;
	rd->iter = bio->bi_iter;
	rd->status = BLK_STS_OK;
	rd->exchanged = false;
	rd->redo = false;
	rd->uses_store = false;
	atomic_set(&rd->refs, 1);
	INIT_WORK(&rd->work, read_work);
	if (!esnap_epoch_readable(ep)) {
		rd->status = unreadable(ep);
		put_read(rd);
	} else if (esnap_bitmap_next_set(&ep->index.changes.changed, first, last) <= last) {
		/* The index may have to be read: not here. */
		queue_work(img->wq, &rd->work);
	} else {
		submit_piece(rd, 0, bio_sectors(bio), rd->iter.bi_sector, true);
		put_read(rd);
	}
}

static ESNAP_SUBMIT_RET image_submit_bio(struct bio *bio)
{
	start_read(bio);
	return ESNAP_SUBMIT_DONE;
}

/* --- the device ------------------------------------------------------------ */

static ESNAP_DISK_OPEN(image_open)
{
	struct esnap_image *img;
	int err = 0;

	spin_lock(&openers_lock);
	img = ESNAP_OPENED_DISK->private_data;
	if (!img || img->dying)
		err = -ENXIO;
	else
		img->openers++;
	spin_unlock(&openers_lock);
	return err;
}

static ESNAP_DISK_RELEASE(image_release)
{
	struct esnap_image *img = disk->private_data;

	spin_lock(&openers_lock);
	img->openers--;
	spin_unlock(&openers_lock);
}

/* The owner makes an open image hold the module. */
static const struct block_device_operations image_fops = {
	.owner = THIS_MODULE,
	.submit_bio = image_submit_bio,
	.open = image_open,
	.release = image_release,
};

struct esnap_image *esnap_image_create(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;
	struct esnap_image *img = kzalloc(sizeof(*img), GFP_KERNEL);
	struct queue_limits limits = {};
	int err;

	if (!img)
		return ERR_PTR(-ENOMEM);
	img->epoch = ep;
	init_waitqueue_head(&img->idle);
	err = bioset_init(&img->clones, CLONE_RESERVE, offsetof(struct piece, clone), 0);
	if (err)
		goto err_img;
	err = mempool_init_slab_pool(&img->reads, READ_RESERVE, read_cache);
	if (err)
		goto err_clones;
	err = -ENOMEM;
	img->wq = alloc_workqueue("esnap_image%u", WQ_MEM_RECLAIM | WQ_UNBOUND, 0, t->minor);
	if (!img->wq)
		goto err_reads;
	esnap_stack_limits(&limits, t->bdev);
	img->disk = esnap_alloc_disk(&limits);
	if (!img->disk)
		goto err_wq;
	img->disk->major = image_major;
	img->disk->first_minor = t->minor;
	img->disk->minors = 1;
	img->disk->flags |= ESNAP_DISK_FLAGS;
	img->disk->fops = &image_fops;
	img->disk->private_data = img;
	snprintf(img->disk->disk_name, DISK_NAME_LEN, ELASTIO_SNAP_IMAGE_NAME "%u", t->minor);
	set_capacity(img->disk, t->nr_sectors);
	set_disk_ro(img->disk, true);
	return img;

err_wq:
	destroy_workqueue(img->wq);
err_reads:
	mempool_exit(&img->reads);
err_clones:
	bioset_exit(&img->clones);
err_img:
	kfree(img);
	return ERR_PTR(err);
}

int esnap_image_announce(struct esnap_image *img)
{
	int err = esnap_add_disk(img->disk);

	img->announced = !err;
	return err;
}

bool esnap_image_wait_closed(struct esnap_image *img)
{
	unsigned int waited;

	for (waited = 0; READ_ONCE(img->openers) && waited < CLOSE_WAIT_MS;
	     waited += CLOSE_STEP_MS)
		msleep(CLOSE_STEP_MS);
	return !READ_ONCE(img->openers);
}

int esnap_image_claim(struct esnap_image *img)
{
	int err = 0;

	esnap_image_wait_closed(img);
	spin_lock(&openers_lock);
	if (img->openers)
		err = -EBUSY;
	else
		img->dying = true;
	spin_unlock(&openers_lock);
	return err;
}

void esnap_image_quiesce(struct esnap_image *img)
{
	smp_mb(); /* pairs with start_read() */
	wait_event(img->idle, !atomic_read(&img->inflight));
}

void esnap_image_remove(struct esnap_image *img)
{
	if (img->announced)
		del_gendisk(img->disk);
	spin_lock(&openers_lock);
	img->disk->private_data = NULL;
	spin_unlock(&openers_lock);
	esnap_image_quiesce(img);
	/* The last read may still be on its way out of put_read(). */
	synchronize_rcu();
	esnap_free_disk(img->disk, img->announced);
	destroy_workqueue(img->wq);
	mempool_exit(&img->reads);
	bioset_exit(&img->clones);
	kfree(img);
}
