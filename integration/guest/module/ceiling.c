// SPDX-License-Identifier: GPL-2.0-only
/*
 * The least that a driver of snapshots can do, to measure against.
 *
 * disk=DEVICE store=SECTOR: each write of whole blocks to the disk, up to 1 MiB,
 * has the blocks read first, and sixteen old blocks or more go behind SECTOR of
 * the disk with one write. That is all: there is no index, no limit, no lock against
 * a second processor and no way back from an error, and a block is copied however
 * often it is written. For one processor, one program that writes 64 MiB at most,
 * and a disk with nothing behind SECTOR.
 */
#include <linux/blkdev.h>
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>

#define MIN_RUN 16
#define MAX_RUN 256
#define BLOCK_SECTORS 8
#define MAX_HELD 256
#define MAX_SAVED 16384

static char *disk;
module_param(disk, charp, 0);
MODULE_PARM_DESC(disk, "path of the disk");

static ulong store;
module_param(store, ulong, 0);
MODULE_PARM_DESC(store, "sector of the disk behind which nothing else is");

/* A write that waits for the read of what it overwrites. */
struct held {
	struct llist_node node;
	struct bio *bio;
	struct bio read;
	struct bio_vec vecs[MAX_RUN];
};

static struct esnap_bdev origin;
static struct gendisk *gendisk;
static struct held *all;
static LLIST_HEAD(unused);
static LLIST_HEAD(read_done);
/* For what is held, and for what is on its way to the store. */
static struct page *pages[MAX_SAVED];
static unsigned int nr_pages;
static DEFINE_SPINLOCK(page_lock);
static struct page *run[MAX_RUN];
static unsigned int nr_run;
static struct bio_set bios;
/* Comes a second time, after the read. */
static struct bio *passing;

static struct page *take_page(void)
{
	unsigned long flags;
	struct page *page;

	spin_lock_irqsave(&page_lock, flags);
	page = pages[--nr_pages];
	spin_unlock_irqrestore(&page_lock, flags);
	return page;
}

static void give_page(struct page *page)
{
	unsigned long flags;

	spin_lock_irqsave(&page_lock, flags);
	pages[nr_pages++] = page;
	spin_unlock_irqrestore(&page_lock, flags);
}

static void end_store(struct bio *bio)
{
	unsigned int i;

	for (i = 0; i < bio->bi_vcnt; i++)
		give_page(bio->bi_io_vec[i].bv_page);
	bio_put(bio);
}

static void store_run(void)
{
	struct bio *bio;
	unsigned int i;

	bio = esnap_bio_alloc(esnap_target(origin.bdev), nr_run, REQ_OP_WRITE, GFP_NOIO,
			      &bios);
	bio->bi_iter.bi_sector = store;
	bio->bi_end_io = end_store;
	for (i = 0; i < nr_run; i++)
		__bio_add_page(bio, run[i], PAGE_SIZE, 0);
	store += nr_run * BLOCK_SECTORS;
	nr_run = 0;
	submit_bio(bio);
}

static void save(struct held *h)
{
	unsigned int i;

	for (i = 0; i < h->read.bi_vcnt; i++) {
		run[nr_run++] = h->vecs[i].bv_page;
		if (nr_run == MAX_RUN)
			store_run();
	}
	if (nr_run >= MIN_RUN)
		store_run();
}

/* What has been read is let go. */
static void go_on(void)
{
	struct llist_node *node = llist_reverse_order(llist_del_all(&read_done));
	struct held *h, *next;

	llist_for_each_entry_safe(h, next, node, node) {
		passing = h->bio;
		submit_bio_noacct(h->bio);
		passing = NULL;
		save(h);
		llist_add(&h->node, &unused);
	}
}

static void work(struct work_struct *unused_work)
{
	struct blk_plug plug;

	blk_start_plug(&plug);
	go_on();
	blk_finish_plug(&plug);
}

static DECLARE_DELAYED_WORK(later, work);

static void end_read(struct bio *bio)
{
	struct held *h = container_of(bio, struct held, read);

	bio_uninit(bio);
	/* Who writes comes by with its next write, if the processor is its own now. */
	if (llist_add(&h->node, &read_done) && !in_task())
		mod_delayed_work(system_highpri_wq, &later, is_idle_task(current) ? 0 : 1);
}

static noinline ESNAP_SUBMIT_RET hold(struct bio *bio)
{
	struct held *h = llist_entry(llist_del_first(&unused), struct held, node);
	struct blk_plug *plug = current->plug;
	unsigned int nr = bio_sectors(bio) / BLOCK_SECTORS;

	h->bio = bio;
	esnap_bio_init(&h->read, esnap_target(origin.bdev), h->vecs, nr, REQ_OP_READ | REQ_SYNC);
	bio_associate_blkg(&h->read);
	h->read.bi_iter.bi_sector = esnap_bio_disk_sector(bio);
	h->read.bi_end_io = end_read;
	while (nr--)
		__bio_add_page(&h->read, take_page(), PAGE_SIZE, 0);
	submit_bio(&h->read);
	if (plug) {
		blk_finish_plug(plug);
		blk_start_plug(plug);
	}
	go_on();
	return ESNAP_SUBMIT_DONE;
}

static void notrace on_submit_bio(unsigned long ip, unsigned long parent_ip,
				  struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct bio *bio = (struct bio *)esnap_ftrace_arg0(fregs);

	if (op_is_write(bio_op(bio)) && bio_sectors(bio) && bio != passing &&
	    bio_sectors(bio) % BLOCK_SECTORS == 0 && bio_sectors(bio) <= MAX_RUN * BLOCK_SECTORS &&
	    bio->bi_end_io != end_store && esnap_bio_disk(bio) == gendisk)
		esnap_ftrace_set_ip(fregs, (unsigned long)hold);
}

static struct ftrace_ops ops = {
	.func = on_submit_bio,
	.flags = FTRACE_OPS_FL_IPMODIFY | ESNAP_FTRACE_FLAGS,
};

static void free_pages_of_all(void)
{
	while (nr_run)
		__free_page(run[--nr_run]);
	while (nr_pages)
		__free_page(pages[--nr_pages]);
}

static int __init ceiling_init(void)
{
	char function[] = "submit_bio_noacct";
	dev_t dev;
	int i, err;

	err = esnap_lookup_bdev(disk, &dev);
	if (err)
		return err;
	err = bioset_init(&bios, MAX_HELD / MIN_RUN, 0, BIOSET_NEED_BVECS);
	if (err)
		return err;
	err = -ENOMEM;
	all = kvcalloc(MAX_HELD, sizeof(*all), GFP_KERNEL);
	if (!all)
		goto err_bios;
	for (i = 0; i < MAX_HELD; i++)
		llist_add(&all[i].node, &unused);
	for (nr_pages = 0; nr_pages < ARRAY_SIZE(pages); nr_pages++) {
		pages[nr_pages] = alloc_page(GFP_KERNEL);
		if (!pages[nr_pages])
			goto err_pages;
	}
	err = esnap_bdev_open(&origin, dev);
	if (err)
		goto err_pages;
	gendisk = origin.bdev->bd_disk;
	err = ftrace_set_filter(&ops, function, strlen(function), 1);
	if (!err)
		err = register_ftrace_function(&ops);
	if (!err)
		return 0;
	ftrace_set_filter(&ops, NULL, 0, 1);
	esnap_bdev_close(&origin);
err_pages:
	free_pages_of_all();
	kvfree(all);
err_bios:
	bioset_exit(&bios);
	return err;
}

static void __exit ceiling_exit(void)
{
	unregister_ftrace_function(&ops);
	ftrace_set_filter(&ops, NULL, 0, 1);
	cancel_delayed_work_sync(&later);
	esnap_bdev_close(&origin);
	free_pages_of_all();
	kvfree(all);
	bioset_exit(&bios);
}

module_init(ceiling_init);
module_exit(ceiling_exit);
MODULE_DESCRIPTION("the least that a driver of snapshots does, for measurements");
MODULE_LICENSE("GPL");
