// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy before write.
 *
 * The hook puts a write that must wait on the held list.  The save worker reads
 * the blocks that are not saved yet, marks them as saved once the read has
 * ended, and hands the write to the release worker.  The store worker writes
 * what was saved to the COW file in long batches, later: nobody waits for it,
 * unless the memory for what is saved but not stored is used up.
 *
 * Nothing here waits for memory.  What cannot be had now is had when a read or
 * a batch ends, and there is a reserve with which one can always go on.
 */
#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "seal.h"
#include "tracker.h"

#define SAVE_GFP (GFP_NOWAIT | __GFP_NOWARN)

/* Reserves: with the pages a full run can be read and still be described. */
#define SAVE_RESERVE 256
#define PAGE_RESERVE (2 * ESNAP_RUN_BLOCKS)
#define BIO_RESERVE 64

/* So many blocks are worth a write to the store; fewer wait for so long. */
#define STORE_BLOCKS 64
#define STORE_DELAY msecs_to_jiffies(10)

/* A store write that takes longer fails the snapshot. */
#define STORE_TIMEOUT (120 * HZ)

static struct kmem_cache *save_cache;

int esnap_copy_module_init(void)
{
	save_cache = KMEM_CACHE(esnap_save, 0);
	return save_cache ? 0 : -ENOMEM;
}

void esnap_copy_module_exit(void)
{
	kmem_cache_destroy(save_cache);
}

/* Who takes an epoch away waits for the workers after it: esnap_copy_sync(). */
static struct esnap_epoch *worker_epoch(struct esnap_tracker *t, int slot)
{
	return rcu_dereference_protected(t->slots[slot], true);
}

/* --- saves ----------------------------------------------------------------- */

/* The save that holds @block, or else the next one behind it. */
static struct esnap_save *find_save(struct esnap_epoch *ep, u64 block)
{
	struct rb_node *node = ep->saves.rb_node;
	struct esnap_save *next = NULL;

	lockdep_assert_held(&ep->lock);
	while (node) {
		struct esnap_save *save = rb_entry(node, struct esnap_save, node);

		if (block < save->first) {
			next = save;
			node = node->rb_left;
		} else if (block >= save->first + save->nr) {
			node = node->rb_right;
		} else {
			return save;
		}
	}
	return next;
}

static void insert_save(struct esnap_epoch *ep, struct esnap_save *new)
{
	struct rb_node **link = &ep->saves.rb_node;
	struct rb_node *parent = NULL;

	spin_lock(&ep->lock);
	while (*link) {
		struct esnap_save *save = rb_entry(*link, struct esnap_save, node);

		parent = *link;
		link = new->first < save->first ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&new->node, parent, link);
	rb_insert_color(&new->node, &ep->saves);
	ep->nr_saves++;
	spin_unlock(&ep->lock);
}

/*
 * Used pages are used again before new ones are had: many kernels clear each
 * page that they give, which costs as much as a copy.  There are PAGE_RESERVE
 * pages at least, in use or not.
 */
static struct page *get_free_page(struct esnap_copy *c)
{
	struct page *page;

	spin_lock(&c->page_lock);
	page = list_first_entry_or_null(&c->free_pages, struct page, lru);
	if (page) {
		list_del(&page->lru);
		c->nr_free_pages--;
	}
	spin_unlock(&c->page_lock);
	return page ?: alloc_page(SAVE_GFP);
}

static void put_free_page(struct esnap_copy *c, struct page *page)
{
	bool keep;

	spin_lock(&c->page_lock);
	keep = c->nr_free_pages < PAGE_RESERVE;
	if (keep) {
		list_add(&page->lru, &c->free_pages);
		c->nr_free_pages++;
	}
	spin_unlock(&c->page_lock);
	if (!keep)
		__free_page(page);
}

static void free_all_pages(struct esnap_copy *c)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &c->free_pages, lru)
		__free_page(page);
}

static int alloc_page_reserve(struct esnap_copy *c)
{
	spin_lock_init(&c->page_lock);
	INIT_LIST_HEAD(&c->free_pages);
	c->nr_free_pages = 0;
	while (c->nr_free_pages < PAGE_RESERVE) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page) {
			free_all_pages(c);
			return -ENOMEM;
		}
		put_free_page(c, page);
	}
	return 0;
}

static void free_pages_of(struct esnap_copy *c, struct esnap_save *save)
{
	u32 i;

	for (i = 0; i < save->nr; i++)
		put_free_page(c, save->pages[i]);
	if (save->pages != save->inline_pages)
		put_free_page(c, virt_to_page(save->pages));
	atomic_sub(save->nr, &c->nr_pages);
}

void esnap_save_put(struct esnap_save *save)
{
	struct esnap_copy *c = &save->epoch->tracker->copy;

	if (!refcount_dec_and_test(&save->refs))
		return;
	free_pages_of(c, save);
	mempool_free(save, &c->save_pool);
	/* Somebody may have waited for the memory. */
	queue_work(c->save_wq, &c->save_work);
}

static void remove_save(struct esnap_save *save)
{
	struct esnap_epoch *ep = save->epoch;
	struct esnap_copy *c = &ep->tracker->copy;
	bool last;

	spin_lock(&ep->lock);
	rb_erase(&save->node, &ep->saves);
	last = !--ep->nr_saves;
	spin_unlock(&ep->lock);
	esnap_save_put(save);
	if (last)
		wake_up_all(&c->wait);
}

struct esnap_save *esnap_save_find(struct esnap_epoch *ep, u64 block)
{
	struct esnap_save *save;

	spin_lock(&ep->lock);
	save = find_save(ep, block);
	if (save && save->first <= block)
		refcount_inc(&save->refs);
	else
		save = NULL;
	spin_unlock(&ep->lock);
	return save;
}

struct page *esnap_save_page(struct esnap_save *save, u64 block)
{
	return save->pages[block - save->first];
}

/* --- reading the old content ----------------------------------------------- */

static void end_read(struct bio *bio)
{
	struct esnap_save *save = bio->bi_private;
	struct esnap_copy *c = &save->epoch->tracker->copy;

	save->status = bio->bi_status;
	bio_put(bio);
	if (llist_add(&save->read_done, &c->read_done))
		queue_work(c->save_wq, &c->save_work);
}

/* As many pages as can be had, up to @nr.  NULL: none. */
static struct esnap_save *alloc_save(struct esnap_epoch *ep, u64 first, u32 nr)
{
	struct esnap_copy *c = &ep->tracker->copy;
	struct esnap_save *save = mempool_alloc(&c->save_pool, SAVE_GFP);

	if (!save)
		return NULL;
	save->pages = save->inline_pages;
	if (nr > ESNAP_INLINE_PAGES) {
		struct page *array = get_free_page(c);

		if (array)
			save->pages = page_address(array);
		else
			nr = ESNAP_INLINE_PAGES;
	}
	for (save->nr = 0; save->nr < nr; save->nr++) {
		save->pages[save->nr] = get_free_page(c);
		if (!save->pages[save->nr])
			break;
	}
	atomic_add(save->nr, &c->nr_pages);
	if (!save->nr) {
		free_pages_of(c, save);
		mempool_free(save, &c->save_pool);
		return NULL;
	}
	refcount_set(&save->refs, 1);
	save->epoch = ep;
	save->first = first;
	save->status = BLK_STS_OK;
	bio_list_init(&save->waiters);
	return save;
}

/* Blocks that the store has room for; what is parked is counted when that ends. */
static u64 free_blocks(const struct esnap_epoch *ep)
{
	u64 used, all;

	if (READ_ONCE(ep->parked))
		return U64_MAX;
	used = ep->first_data_block + ep->nr_reserved;
	all = ep->cowfile.size / ELASTIO_SNAP_BLOCK_SIZE;
	return used < all ? all - used : 0;
}

/* Memory comes back when a read or a batch ends; if none will, that is the end. */
static int no_memory(const struct esnap_epoch *ep, int used)
{
	return ep->nr_reading || (used && !READ_ONCE(ep->parked)) ? -EAGAIN : -ENOMEM;
}

/*
 * Starts to save @nr blocks from @first on, or fewer, for @held.  -EAGAIN: not
 * before something has ended; any other error is the snapshot's end.
 */
static struct esnap_save *start_save(struct esnap_epoch *ep, struct bio *held, u64 first, u32 nr)
{
	struct esnap_tracker *t = ep->tracker;
	struct esnap_copy *c = &t->copy;
	/* While the origin is not ours, the held bio's disk cannot go away. */
	struct block_device *own = READ_ONCE(t->bdev);
	struct block_device *bdev = own ?: bdev_whole(held->bi_bdev);
	u64 base = own ? 0 : t->start;
	u64 room = free_blocks(ep);
	int limit = READ_ONCE(esnap_pending_max_mib) << (20 - PAGE_SHIFT);
	int used = atomic_read(&c->nr_pages);
	u64 sectors, sector = first * ELASTIO_SNAP_BLOCK_SECTORS;
	struct esnap_save *save;
	struct bio *bio;
	u32 i;

	if (used >= limit)
		/* Nothing that is parked will ever land. */
		return ERR_PTR(READ_ONCE(ep->parked) ? -ENOMEM : -EAGAIN);
	nr = min3(nr, (u32)ESNAP_RUN_BLOCKS, (u32)(limit - used));
	nr = min_t(u64, nr, max_t(u64, room, 1));
	if (esnap_bitmap_prepare(&ep->index.changes.changed, first, first + nr - 1))
		return ERR_PTR(-ENOMEM);
	if (!room) {
		/* What still fits is saved to the last block before the end. */
		if (ep->nr_reading)
			return ERR_PTR(-EAGAIN);
		/* The block that does not fit counts as changed, too. */
		esnap_index_mark(&ep->index, &ep->index.changes.changed, first, first);
		return ERR_PTR(-EFBIG);
	}
	save = alloc_save(ep, first, nr);
	if (!save)
		return ERR_PTR(no_memory(ep, used));
	bio = bio_alloc_bioset(bdev, save->nr, REQ_OP_READ | REQ_SYNC, SAVE_GFP, &c->read_bios);
	if (!bio) {
		free_pages_of(c, save);
		mempool_free(save, &c->save_pool);
		return ERR_PTR(no_memory(ep, used));
	}

	/* The origin's last block may be shorter than a block. */
	sectors = min_t(u64, (u64)save->nr * ELASTIO_SNAP_BLOCK_SECTORS, t->nr_sectors - sector);
	bio->bi_iter.bi_sector = base + sector;
	bio->bi_end_io = end_read;
	bio->bi_private = save;
	for (i = 0; i < save->nr; i++) {
		unsigned int len = min_t(u64, sectors, ELASTIO_SNAP_BLOCK_SECTORS) << SECTOR_SHIFT;

		if (len < PAGE_SIZE)
			clear_highpage(save->pages[i]);
		__bio_add_page(bio, save->pages[i], len, 0);
		sectors -= len >> SECTOR_SHIFT;
	}
	ep->nr_reserved += save->nr;
	ep->nr_reading++;
	insert_save(ep, save);
	submit_bio(bio);
	return save;
}

/*
 * Gets the unsaved ones of the blocks first..last saved.  0: all are; 1: the
 * bio waits for a read; -EAGAIN: for memory; other errors: the snapshot's end.
 */
static int save_blocks(struct esnap_epoch *ep, struct bio *bio, u64 first, u64 last)
{
	struct esnap_bitmap *saved = &ep->index.changes.changed;
	struct esnap_save *wait = NULL;
	int err = 0;
	u64 block;

	for (block = esnap_bitmap_next_zero(saved, first, last); block <= last;
	     block = esnap_bitmap_next_zero(saved, block, last)) {
		struct esnap_save *save;
		u64 end;

		spin_lock(&ep->lock);
		save = find_save(ep, block);
		end = save && save->first > block ? min(last, save->first - 1) : last;
		spin_unlock(&ep->lock);
		/*
		 * A save that holds an unsaved block is still being read, and
		 * only this worker ends that: it cannot go away here.
		 */
		if (!save || save->first > block) {
			u64 nr = esnap_bitmap_next_set(saved, block, end) - block;

			save = start_save(ep, bio, block, min_t(u64, nr, U32_MAX));
			if (IS_ERR(save)) {
				err = PTR_ERR(save);
				break;
			}
		}
		if (!wait)
			wait = save;
		block = save->first + save->nr;
	}
	if (err && err != -EAGAIN)
		return err;
	if (wait) {
		bio_list_add(&wait->waiters, bio);
		return 1;
	}
	return err;
}

/* --- the save worker ------------------------------------------------------- */

static void release(struct esnap_copy *c, struct bio *bio)
{
	spin_lock(&c->release_lock);
	bio_list_add(&c->release, bio);
	spin_unlock(&c->release_lock);
	queue_work(c->release_wq, &c->release_work);
}

static void held_done(struct esnap_copy *c, int n)
{
	if (atomic_sub_and_test(n, &c->nr_held))
		wake_up_all(&c->wait);
}

enum verdict {
	/* As far as this epoch goes it may be submitted. */
	ADMITTED,
	/* It waits for a read, or has been ended. */
	TAKEN,
	/* Nothing can be done for it, or for those behind it, now. */
	BLOCKED,
};

/* Does the bio write to the store's own sectors? */
static bool hits_store(struct esnap_tracker *t, struct esnap_epoch *ep, struct bio *bio)
{
	u64 from = max(esnap_bio_disk_sector(bio), t->start);
	u64 to = min(esnap_bio_disk_sector(bio) + bio_sectors(bio), t->start + t->nr_sectors);

	return esnap_store_overlaps(&ep->store, from - t->start, to - from);
}

/* What is a change must wait for the COW file not to say that it is complete. */
static enum verdict admit_sealed(struct esnap_epoch *ep, struct bio *bio, bool is_change)
{
	int err;

	switch (READ_ONCE(ep->seal)) {
	case ESNAP_OPEN:
		return ADMITTED;
	case ESNAP_CLOSING:
		return is_change ? BLOCKED : ADMITTED;
	case ESNAP_CLEAN:
		break;
	}
	err = is_change ? esnap_seal_break(ep, bio) : 0;
	if (err == -EAGAIN)
		return BLOCKED;
	if (err)
		esnap_fail(ep, err, "its COW file does not answer, or is not its own any more");
	return ADMITTED;
}

static enum verdict admit(struct esnap_tracker *t, struct esnap_epoch *ep, struct bio *bio,
			  u64 first, u64 last)
{
	enum esnap_mode mode = READ_ONCE(ep->mode);
	struct esnap_bitmap *bm =
		mode == ESNAP_WINDOW ? &ep->index.changes.window : &ep->index.changes.changed;
	bool into_store;
	int err;

	if (mode == ESNAP_PASS)
		return ADMITTED;
	if (mode == ESNAP_SNAPSHOT && !READ_ONCE(ep->settled))
		return BLOCKED;
	into_store = mode != ESNAP_WINDOW && hits_store(t, ep, bio);
	if (READ_ONCE(ep->seal) != ESNAP_OPEN &&
	    admit_sealed(ep, bio, into_store ||
			 esnap_bitmap_next_zero(bm, first, last) <= last) == BLOCKED)
		return BLOCKED;
	if (into_store) {
		esnap_fail(ep, -EIO, "somebody writes to the COW file's blocks");
		return ADMITTED;
	}
	if (mode != ESNAP_SNAPSHOT) {
		if (esnap_bitmap_prepare(bm, first, last))
			esnap_fail(ep, -ENOMEM, "no memory for the change bitmap");
		else
			esnap_index_mark(&ep->index, bm, first, last);
		return ADMITTED;
	}
	if (bio_op(bio) == REQ_OP_DISCARD &&
	    esnap_bitmap_next_zero(bm, first, last) <= last) {
		/* A hint: what is not discarded needs no copy. */
		bio_endio(bio);
		held_done(&t->copy, 1);
		return TAKEN;
	}
	err = save_blocks(ep, bio, first, last);
	if (err == -EAGAIN)
		return BLOCKED;
	if (err < 0)
		esnap_fail(ep, err, err == -EFBIG ? "the COW file is full" :
						    "no memory to save a block");
	return err > 0 ? TAKEN : ADMITTED;
}

static enum verdict process(struct esnap_tracker *t, struct bio *bio)
{
	u64 from = esnap_bio_disk_sector(bio), to = from + bio_sectors(bio);
	u64 first, last;
	int i;

	from = max(from, t->start) - t->start;
	to = min(to, t->start + t->nr_sectors) - t->start;
	first = from >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	last = (to - 1) >> ESNAP_SECTOR_TO_BLOCK_SHIFT;
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = worker_epoch(t, i);
		enum verdict verdict = ep ? admit(t, ep, bio, first, last) : ADMITTED;

		if (verdict != ADMITTED)
			return verdict;
	}
	release(&t->copy, bio);
	return ADMITTED;
}

static void kick_store(struct esnap_tracker *t, bool flush)
{
	struct esnap_copy *c = &t->copy;

	if (flush)
		WRITE_ONCE(c->flush, true);
	mod_delayed_work(c->store_wq, &c->store_work, 0);
}

/*
 * Publish first the data, then the bits: a reader of the image that finds a bit
 * finds the save, and whoever sees the write that is let go sees the bit.
 */
static void finish_read(struct esnap_tracker *t, struct esnap_save *save)
{
	struct esnap_epoch *ep = save->epoch;
	struct esnap_copy *c = &t->copy;
	u64 nr;

	WRITE_ONCE(ep->nr_reading, ep->nr_reading - 1);
	if (!ep->nr_reading && READ_ONCE(ep->seal) != ESNAP_OPEN)
		wake_up_all(&c->wait);
	if (save->status)
		esnap_fail(ep, -EIO, "the origin cannot be read");
	bio_list_merge(&c->ready, &save->waiters);
	if (READ_ONCE(ep->mode) != ESNAP_SNAPSHOT) {
		remove_save(save);
		return;
	}
	esnap_index_mark(&ep->index, &ep->index.changes.changed, save->first,
			 save->first + save->nr - 1);
	spin_lock(&ep->lock);
	if (list_empty(&ep->unstored))
		ep->flush_at = jiffies + STORE_DELAY;
	list_add_tail(&save->list, &ep->unstored);
	nr = ep->nr_unstored += save->nr;
	spin_unlock(&ep->lock);
	if (nr >= STORE_BLOCKS)
		kick_store(t, false);
	else
		queue_delayed_work(c->store_wq, &c->store_work, STORE_DELAY);
}

static void save_work(struct work_struct *work)
{
	struct esnap_tracker *t = container_of(work, struct esnap_tracker, copy.save_work);
	struct esnap_copy *c = &t->copy;
	struct llist_node *done = llist_reverse_order(llist_del_all(&c->read_done));
	unsigned int noio = memalloc_noio_save();
	bool blocked = false;
	struct bio_list held;
	struct blk_plug plug;
	struct bio *bio;

	while (done) {
		struct esnap_save *save = llist_entry(done, struct esnap_save, read_done);

		done = done->next;
		finish_read(t, save);
	}
	raw_spin_lock_irq(&c->held_lock);
	held = c->held;
	bio_list_init(&c->held);
	raw_spin_unlock_irq(&c->held_lock);
	bio_list_merge(&c->ready, &held);

	blk_start_plug(&plug);
	while (!blocked && (bio = bio_list_pop(&c->ready))) {
		blocked = process(t, bio) == BLOCKED;
		if (blocked)
			bio_list_add_head(&c->ready, bio);
	}
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);

	if (blocked)
		kick_store(t, true);
}

/* --- the release worker ---------------------------------------------------- */

static void release_work(struct work_struct *work)
{
	struct esnap_copy *c = container_of(work, struct esnap_copy, release_work);
	unsigned int noio = memalloc_noio_save();
	struct bio_list bios;
	struct blk_plug plug;
	struct bio *bio;
	int n = 0;

	spin_lock(&c->release_lock);
	bios = c->release;
	bio_list_init(&c->release);
	spin_unlock(&c->release_lock);

	blk_start_plug(&plug);
	while ((bio = bio_list_pop(&bios))) {
		/* The hook sees it again, and finds that it may pass. */
		submit_bio_noacct(bio);
		n++;
	}
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
	if (n)
		held_done(c, n);
}

/* --- the store worker ------------------------------------------------------ */

static void end_batch(struct esnap_sio *sio)
{
	struct esnap_batch *batch = container_of(sio, struct esnap_batch, sio);
	struct esnap_copy *c = &batch->epoch->tracker->copy;

	llist_add(&batch->landed, &c->landed);
	mod_delayed_work(c->store_wq, &c->store_work, 0);
}

/* The mapping knows a save before it leaves memory. */
static void finish_batch(struct esnap_batch *batch)
{
	struct esnap_epoch *ep = batch->epoch;
	u64 cow_block = batch->cow_block;
	struct esnap_save *save, *next;

	if (batch->sio.error)
		esnap_fail(ep, batch->sio.error, "the COW file cannot be written");
	list_for_each_entry_safe(save, next, &batch->saves, list) {
		if (READ_ONCE(ep->mode) == ESNAP_SNAPSHOT) {
			int err = esnap_index_map(&ep->index, save->first, save->nr, cow_block);

			if (err)
				esnap_fail(ep, err, "the index cannot be kept");
		}
		cow_block += save->nr;
		list_del(&save->list);
		remove_save(save);
	}
	batch->busy = false;
	esnap_store_put(&ep->store);
}

static struct esnap_batch *free_batch(struct esnap_copy *c)
{
	int i;

	for (i = 0; i < ESNAP_NR_BATCHES; i++)
		if (!c->batches[i].busy)
			return &c->batches[i];
	return NULL;
}

/* Moves at most @max blocks of what is unstored to @list; at least one save. */
static u64 take_unstored(struct esnap_epoch *ep, struct list_head *list, u64 max)
{
	u64 nr = 0;

	spin_lock(&ep->lock);
	while (!list_empty(&ep->unstored)) {
		struct esnap_save *save =
			list_first_entry(&ep->unstored, struct esnap_save, list);

		if (nr && nr + save->nr > max)
			break;
		nr += save->nr;
		list_move_tail(&save->list, list);
	}
	ep->nr_unstored -= nr;
	spin_unlock(&ep->lock);
	return nr;
}

static void drop_unstored(struct esnap_epoch *ep)
{
	struct esnap_save *save, *next;
	LIST_HEAD(list);

	take_unstored(ep, &list, U64_MAX);
	list_for_each_entry_safe(save, next, &list, list) {
		list_del(&save->list);
		remove_save(save);
	}
}

/* The caller holds a use of the store, which goes with the batch. */
static void start_batch(struct esnap_epoch *ep, struct esnap_batch *batch)
{
	struct esnap_copy *c = &ep->tracker->copy;
	struct esnap_transfer x;
	struct esnap_save *save;
	u64 cow_block = ep->next_cow_block;
	u32 i;

	batch->busy = true;
	batch->epoch = ep;
	batch->started = jiffies;
	batch->cow_block = cow_block;
	INIT_LIST_HEAD(&batch->saves);
	ep->next_cow_block += take_unstored(ep, &batch->saves, ESNAP_RUN_BLOCKS);
	queue_delayed_work(system_wq, &c->watchdog, STORE_TIMEOUT);

	esnap_transfer_start(&x, &ep->store, REQ_OP_WRITE, &batch->sio);
	list_for_each_entry(save, &batch->saves, list)
		for (i = 0; i < save->nr; i++)
			esnap_transfer_add(&x, cow_block++, save->pages[i]);
	esnap_transfer_finish(&x);
}

/* Returns when to come back in jiffies, or MAX_JIFFY_OFFSET for: when kicked. */
static unsigned long store_epoch(struct esnap_epoch *ep, bool flush)
{
	struct esnap_copy *c = &ep->tracker->copy;
	u64 nr;

	while ((nr = READ_ONCE(ep->nr_unstored))) {
		unsigned long flush_at = READ_ONCE(ep->flush_at);
		struct esnap_batch *batch;

		if (READ_ONCE(ep->mode) != ESNAP_SNAPSHOT) {
			drop_unstored(ep);
			break;
		}
		if (READ_ONCE(ep->parked))
			break;
		if (nr < STORE_BLOCKS && !flush && time_before(jiffies, flush_at))
			return flush_at - jiffies;
		batch = free_batch(c);
		if (!batch)
			break;
		/* Never behind the end of the file: what is there is not ours. */
		if (ep->next_cow_block + nr > ep->cowfile.size / ELASTIO_SNAP_BLOCK_SIZE) {
			esnap_fail(ep, -EFBIG, "the COW file is full");
			continue;
		}
		if (!esnap_store_get(&ep->store)) {
			/* Closed while a snapshot is active: the filesystem ends. */
			esnap_fail(ep, -ENODEV, "the filesystem of the COW file has ended");
			continue;
		}
		start_batch(ep, batch);
	}
	return MAX_JIFFY_OFFSET;
}

static void store_work(struct work_struct *work)
{
	struct esnap_tracker *t =
		container_of(to_delayed_work(work), struct esnap_tracker, copy.store_work);
	struct esnap_copy *c = &t->copy;
	struct llist_node *landed = llist_reverse_order(llist_del_all(&c->landed));
	unsigned int noio = memalloc_noio_save();
	bool flush = xchg(&c->flush, false);
	unsigned long delay = MAX_JIFFY_OFFSET;
	struct blk_plug plug;
	int i;

	while (landed) {
		struct esnap_batch *batch = llist_entry(landed, struct esnap_batch, landed);

		landed = landed->next;
		finish_batch(batch);
	}
	blk_start_plug(&plug);
	for (i = 0; i < ARRAY_SIZE(t->slots); i++) {
		struct esnap_epoch *ep = worker_epoch(t, i);

		if (ep)
			delay = min(delay, store_epoch(ep, flush));
	}
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
	/* Does nothing when somebody has kicked us meanwhile. */
	if (delay != MAX_JIFFY_OFFSET)
		queue_delayed_work(c->store_wq, &c->store_work, delay);
}

static void watchdog(struct work_struct *work)
{
	struct esnap_copy *c = container_of(to_delayed_work(work), struct esnap_copy, watchdog);
	bool busy = false;
	int i;

	for (i = 0; i < ESNAP_NR_BATCHES; i++) {
		struct esnap_batch *batch = &c->batches[i];

		if (!READ_ONCE(batch->busy))
			continue;
		busy = true;
		if (time_after_eq(jiffies, READ_ONCE(batch->started) + STORE_TIMEOUT))
			esnap_fail(batch->epoch, -ETIMEDOUT,
				   "the COW file's device does not answer");
	}
	if (busy)
		queue_delayed_work(system_wq, &c->watchdog, STORE_TIMEOUT / 4);
}

/* --- life ------------------------------------------------------------------ */

int esnap_copy_init(struct esnap_tracker *t)
{
	struct esnap_copy *c = &t->copy;
	int i, err;

	raw_spin_lock_init(&c->held_lock);
	spin_lock_init(&c->release_lock);
	bio_list_init(&c->held);
	bio_list_init(&c->ready);
	bio_list_init(&c->release);
	init_llist_head(&c->read_done);
	init_llist_head(&c->landed);
	atomic_set(&c->nr_held, 0);
	atomic_set(&c->nr_pages, 0);
	init_waitqueue_head(&c->wait);
	INIT_WORK(&c->save_work, save_work);
	INIT_WORK(&c->release_work, release_work);
	INIT_DELAYED_WORK(&c->store_work, store_work);
	INIT_DELAYED_WORK(&c->watchdog, watchdog);
	for (i = 0; i < ESNAP_NR_BATCHES; i++)
		c->batches[i].sio.done = end_batch;

	err = bioset_init(&c->read_bios, BIO_RESERVE, 0, BIOSET_NEED_BVECS);
	if (err)
		return err;
	err = mempool_init_slab_pool(&c->save_pool, SAVE_RESERVE, save_cache);
	if (err)
		goto err_bios;
	err = alloc_page_reserve(c);
	if (err)
		goto err_saves;
	err = -ENOMEM;
	c->save_wq = alloc_workqueue("esnap_save%u", WQ_MEM_RECLAIM | WQ_HIGHPRI, 1, t->minor);
	if (!c->save_wq)
		goto err_pages;
	c->store_wq = alloc_workqueue("esnap_store%u", WQ_MEM_RECLAIM | WQ_HIGHPRI, 1, t->minor);
	if (!c->store_wq)
		goto err_save_wq;
	c->release_wq = alloc_workqueue("esnap_release%u", WQ_MEM_RECLAIM | WQ_HIGHPRI, 1,
					t->minor);
	if (!c->release_wq)
		goto err_store_wq;
	return 0;

err_store_wq:
	destroy_workqueue(c->store_wq);
err_save_wq:
	destroy_workqueue(c->save_wq);
err_pages:
	free_all_pages(c);
err_saves:
	mempool_exit(&c->save_pool);
err_bios:
	bioset_exit(&c->read_bios);
	return err;
}

void esnap_copy_exit(struct esnap_tracker *t)
{
	struct esnap_copy *c = &t->copy;

	cancel_delayed_work_sync(&c->watchdog);
	cancel_delayed_work_sync(&c->store_work);
	destroy_workqueue(c->release_wq);
	destroy_workqueue(c->store_wq);
	destroy_workqueue(c->save_wq);
	free_all_pages(c);
	mempool_exit(&c->save_pool);
	bioset_exit(&c->read_bios);
}

void esnap_copy_hold(struct esnap_tracker *t, struct bio *bio)
{
	struct esnap_copy *c = &t->copy;
	unsigned long flags;

	esnap_bio_make_waiting(bio);
	atomic_inc(&c->nr_held);
	raw_spin_lock_irqsave(&c->held_lock, flags);
	bio_list_add(&c->held, bio);
	raw_spin_unlock_irqrestore(&c->held_lock, flags);
	queue_work(c->save_wq, &c->save_work);
}

void esnap_copy_kick(struct esnap_tracker *t)
{
	queue_work(t->copy.save_wq, &t->copy.save_work);
	kick_store(t, true);
}

void esnap_copy_sync(struct esnap_tracker *t)
{
	flush_work(&t->copy.save_work);
	flush_delayed_work(&t->copy.store_work);
	flush_work(&t->copy.watchdog.work);
}

void esnap_copy_wait_held(struct esnap_tracker *t)
{
	esnap_copy_kick(t);
	wait_event(t->copy.wait, !atomic_read(&t->copy.nr_held));
}

void esnap_copy_wait_reads(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;

	flush_work(&t->copy.save_work);
	wait_event(t->copy.wait, !READ_ONCE(ep->nr_reading));
	/* The worker that ended the last read hands it on, too. */
	flush_work(&t->copy.save_work);
}

void esnap_copy_drain(struct esnap_epoch *ep)
{
	struct esnap_tracker *t = ep->tracker;

	esnap_copy_kick(t);
	wait_event(t->copy.wait, !READ_ONCE(ep->nr_saves));
}
