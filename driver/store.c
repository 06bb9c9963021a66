// SPDX-License-Identifier: GPL-2.0-only
/* Raw I/O on the physical extents of the COW file. */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "fault.h"
#include "store.h"

/* Bios that are kept in reserve: writing the store must not wait for memory. */
#define STORE_BIO_RESERVE 32

static int compare_by_disk(const void *a, const void *b)
{
	const struct esnap_extent *x = a, *y = b;

	if (x->disk_sector == y->disk_sector)
		return 0;
	return x->disk_sector < y->disk_sector ? -1 : 1;
}

struct esnap_map *esnap_map_make(struct esnap_extent *extents, u32 nr)
{
	struct esnap_map *map = kzalloc(sizeof(*map), GFP_KERNEL);
	size_t size = array_size(nr, sizeof(*extents));
	u32 i;

	if (!map)
		goto err;
	map->by_disk = kvmalloc(size, GFP_KERNEL);
	if (!map->by_disk)
		goto err_map;
	map->by_file = extents;
	map->nr = nr;
	memcpy(map->by_disk, extents, size);
	sort(map->by_disk, nr, sizeof(*extents), compare_by_disk, NULL);
	for (i = 0; i < nr; i++)
		if ((extents[i].disk_sector | extents[i].nr_sectors) %
		    ELASTIO_SNAP_BLOCK_SECTORS)
			map->unaligned = true;
	return map;

err_map:
	kfree(map);
err:
	kvfree(extents);
	return NULL;
}

void esnap_map_free(struct esnap_map *map)
{
	if (!map)
		return;
	kvfree(map->by_file);
	kvfree(map->by_disk);
	kfree(map);
}

void esnap_map_free_rcu(struct esnap_map *map)
{
	if (!map)
		return;
	synchronize_rcu();
	esnap_map_free(map);
}

struct esnap_map *esnap_map_clip(const struct esnap_map *map, u64 nr_sectors)
{
	struct esnap_extent *extents;
	u32 nr = 0;

	extents = kvmalloc_array(map->nr, sizeof(*extents), GFP_KERNEL);
	if (!extents)
		return NULL;
	while (nr < map->nr && map->by_file[nr].file_sector < nr_sectors) {
		extents[nr] = map->by_file[nr];
		extents[nr].nr_sectors = min(extents[nr].nr_sectors,
					     nr_sectors - extents[nr].file_sector);
		nr++;
	}
	return esnap_map_make(extents, nr);
}

u64 esnap_map_sectors(const struct esnap_map *map)
{
	const struct esnap_extent *last = &map->by_file[map->nr - 1];

	return last->file_sector + last->nr_sectors;
}

bool esnap_map_equal(const struct esnap_map *a, const struct esnap_map *b)
{
	return a->nr == b->nr &&
	       !memcmp(a->by_file, b->by_file, a->nr * sizeof(*a->by_file));
}

int esnap_store_init(struct esnap_store *st)
{
	st->base = 0;
	RCU_INIT_POINTER(st->map, NULL);
	atomic_set(&st->users, 1);
	st->closed = false;
	init_waitqueue_head(&st->idle);
	return bioset_init(&st->bios, STORE_BIO_RESERVE, 0, BIOSET_NEED_BVECS);
}

void esnap_store_aim(struct esnap_store *st, struct esnap_target target, u64 base)
{
	st->target = target;
	st->base = base;
	esnap_store_accept_medium(st);
}

void esnap_store_accept_medium(struct esnap_store *st)
{
	WRITE_ONCE(st->diskseq, esnap_diskseq(esnap_target_gendisk(st->target)));
}

void esnap_store_free(struct esnap_store *st)
{
	esnap_map_free(rcu_dereference_protected(st->map, true));
	bioset_exit(&st->bios);
}

bool esnap_store_get(struct esnap_store *st)
{
	return atomic_inc_not_zero(&st->users);
}

void esnap_store_put(struct esnap_store *st)
{
	if (atomic_dec_and_test(&st->users))
		wake_up_all(&st->idle);
}

void esnap_store_close(struct esnap_store *st)
{
	if (!xchg(&st->closed, true))
		esnap_store_put(st);
	wait_event(st->idle, !atomic_read(&st->users));
}

void esnap_store_reopen(struct esnap_store *st)
{
	atomic_set(&st->users, 1);
	WRITE_ONCE(st->closed, false);
}

/* The first extent, in the order of the disk, that ends behind @sector. */
static u32 first_behind(const struct esnap_map *map, u64 sector)
{
	u32 low = 0, high = map->nr;

	while (low < high) {
		u32 mid = low + (high - low) / 2;
		const struct esnap_extent *e = &map->by_disk[mid];

		if (e->disk_sector + e->nr_sectors <= sector)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

u64 esnap_store_next_own(struct esnap_store *st, u64 sector, u64 nr, u64 *run)
{
	const struct esnap_map *map;
	u64 from = sector;

	*run = 0;
	rcu_read_lock();
	map = rcu_dereference(st->map);
	if (map) {
		u32 i = first_behind(map, sector);

		if (i < map->nr && map->by_disk[i].disk_sector < sector + nr) {
			const struct esnap_extent *e = &map->by_disk[i];

			from = max(sector, e->disk_sector);
			*run = min(sector + nr, e->disk_sector + e->nr_sectors) - from;
		}
	}
	rcu_read_unlock();
	return from;
}

bool esnap_store_overlaps(struct esnap_store *st, u64 sector, u64 nr)
{
	u64 run;

	esnap_store_next_own(st, sector, nr, &run);
	return run && !esnap_fault("store_unguarded");
}

u64 esnap_store_sector(struct esnap_store *st, u64 file_sector, u64 *run)
{
	/* The map is replaced only while nobody holds a use. */
	const struct esnap_map *map = rcu_dereference_protected(st->map, true);
	u32 low = 0, high = map->nr - 1;
	const struct esnap_extent *e;

	while (low < high) {
		u32 mid = low + (high - low + 1) / 2;

		if (map->by_file[mid].file_sector <= file_sector)
			low = mid;
		else
			high = mid - 1;
	}
	e = &map->by_file[low];
	*run = min(*run, e->file_sector + e->nr_sectors - file_sector);
	return e->disk_sector + (file_sector - e->file_sector) + esnap_fault("beside_store");
}

/* One use for the one who adds bios, so that it cannot end in between. */
static void sio_start(struct esnap_sio *sio)
{
	atomic_set(&sio->pending, 1);
	sio->error = 0;
}

static void sio_put(struct esnap_sio *sio)
{
	if (atomic_dec_and_test(&sio->pending))
		sio->done(sio);
}

static void store_end_io(struct bio *bio)
{
	struct esnap_sio *sio = bio->bi_private;

	if (bio->bi_status)
		WRITE_ONCE(sio->error, blk_status_to_errno(bio->bi_status));
	bio_put(bio);
	sio_put(sio);
}

/*
 * What a page that is written to a store of @disk has as its private: no pointer,
 * which is what others have there.  Of the disk, and not of us alone: below a loop
 * device the same page is written once more, as a part of its backing file.
 */
static unsigned long mark_of(struct gendisk *disk)
{
	return (unsigned long)disk | 1;
}

bool esnap_store_has_sent(struct bio *bio)
{
	bool whole = bio->bi_end_io == store_end_io;
	/* A part is a clone, with the pages of the whole. */
	bool part = bio_flagged(bio, BIO_CLONED) && !esnap_fault("forget_part");

	if (whole && esnap_fault("own_everywhere"))
		return true;
	/* Not by the callback alone: md passes a bio on to a member as it is. */
	return (whole || part) && bio_op(bio) == REQ_OP_WRITE &&
	       READ_ONCE(bio_page(bio)->private) == mark_of(esnap_bio_disk(bio));
}

void esnap_store_free_page(struct page *page)
{
	/* Not every allocation clears it, and the next owner may write it to the same disk. */
	set_page_private(page, 0);
	__free_page(page);
}

static struct bio *store_bio(struct esnap_store *st, struct esnap_sio *sio,
			     blk_opf_t op, u64 sector, unsigned int nr_vecs)
{
	struct bio *bio = esnap_bio_alloc(st->target, nr_vecs, op, GFP_NOIO, &st->bios);

	bio->bi_iter.bi_sector = st->base + sector;
	bio->bi_end_io = store_end_io;
	bio->bi_private = sio;
	atomic_inc(&sio->pending);
	return bio;
}

void esnap_transfer_start(struct esnap_transfer *x, struct esnap_store *st, blk_opf_t op,
			  struct esnap_sio *sio)
{
	sio_start(sio);
	x->st = st;
	x->sio = sio;
	x->op = op;
	x->bio = NULL;
	x->next_sector = 0;
}

/* One block may lie in several extents: it goes by its pieces. */
void esnap_transfer_add(struct esnap_transfer *x, u64 cow_block, struct page *page)
{
	u64 file_sector = cow_block * ELASTIO_SNAP_BLOCK_SECTORS;
	unsigned int done = 0;

	if (READ_ONCE(x->st->diskseq) != esnap_diskseq(esnap_target_gendisk(x->st->target))) {
		WRITE_ONCE(x->sio->error, -ENODEV);
		return;
	}
	if (op_is_write(x->op))
		set_page_private(page, mark_of(esnap_target_gendisk(x->st->target)));
	while (done < ELASTIO_SNAP_BLOCK_SECTORS) {
		u64 run = ELASTIO_SNAP_BLOCK_SECTORS - done;
		u64 sector = esnap_store_sector(x->st, file_sector + done, &run);

		if (x->bio && (x->next_sector != sector || x->bio->bi_vcnt == BIO_MAX_VECS)) {
			submit_bio(x->bio);
			x->bio = NULL;
		}
		if (!x->bio)
			x->bio = store_bio(x->st, x->sio, x->op, sector, BIO_MAX_VECS);
		__bio_add_page(x->bio, page, run << SECTOR_SHIFT, done << SECTOR_SHIFT);
		x->next_sector = sector + run;
		done += run;
	}
}

void esnap_transfer_finish(struct esnap_transfer *x)
{
	if (x->bio)
		submit_bio(x->bio);
	sio_put(x->sio);
}

static void complete_sync(struct esnap_sio *sio)
{
	complete(&container_of(sio, struct esnap_sync_sio, sio)->completion);
}

void esnap_sync_sio_init(struct esnap_sync_sio *sync)
{
	sync->sio.done = complete_sync;
	init_completion(&sync->completion);
}

int esnap_sync_sio_wait(struct esnap_sync_sio *sync)
{
	wait_for_completion_io(&sync->completion);
	return sync->sio.error;
}

int esnap_store_rw_block(struct esnap_store *st, blk_opf_t op, u64 cow_block,
			 struct page *page)
{
	struct esnap_sync_sio sync;
	struct esnap_transfer x;

	esnap_sync_sio_init(&sync);
	esnap_transfer_start(&x, st, op, &sync.sio);
	esnap_transfer_add(&x, cow_block, page);
	esnap_transfer_finish(&x);
	return esnap_sync_sio_wait(&sync);
}
