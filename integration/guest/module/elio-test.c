// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tests need of a kernel and no user space program can give.
 *
 * ipmodify=FUNCTION: redirects a function by ftrace as a live patch does, but to
 *   where it would have gone anyway.
 * disk_mib=N: /dev/elio-test0, a disk in memory that takes writes, discards,
 *   writes of zeros and secure erases.
 * write_same=DEVICE,SECTOR,NR: writes one page of 0xa5 all over some sectors, by
 *   the operation that kernels had for it until 5.17.
 * kill_ftrace=1: does to ftrace what it does to itself when it finds something wrong.
 * hold_open=1: a program named "late" that opens a block device waits, when it has found
 *   the disk, until this is 0.
 * hold_reboot=1: when all others know that the machine goes down, it waits until this is 0.
 */
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#define DISK_NAME "elio-test"

static char *ipmodify;
module_param(ipmodify, charp, 0);
MODULE_PARM_DESC(ipmodify, "function to redirect to itself");

static unsigned int disk_mib;
module_param(disk_mib, uint, 0);
MODULE_PARM_DESC(disk_mib, "size of the disk in MiB, 0: none");

static char *write_same;
module_param(write_same, charp, 0);
MODULE_PARM_DESC(write_same, "DEVICE,SECTOR,NR of a WRITE SAME");

static bool kill_ftrace;
module_param(kill_ftrace, bool, 0);
MODULE_PARM_DESC(kill_ftrace, "shut down ftrace until the machine is restarted");

static bool hold_open;
module_param(hold_open, bool, 0600);
MODULE_PARM_DESC(hold_open, "let \"late\" open no block device");

static bool hold_reboot;
module_param(hold_reboot, bool, 0600);
MODULE_PARM_DESC(hold_reboot, "let no reboot go on");

/* --- an IPMODIFY user ------------------------------------------------------ */

static void notrace on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			    struct ftrace_regs *fregs)
{
}

static struct ftrace_ops ipmodify_ops = {
	.func = on_call,
	.flags = FTRACE_OPS_FL_IPMODIFY | ESNAP_FTRACE_FLAGS,
};

/* Without this the memory of the filter outlives the module. */
static void forget_function(struct ftrace_ops *ops)
{
	ftrace_set_filter(ops, NULL, 0, 1);
}

static int redirect(struct ftrace_ops *ops, const char *name)
{
	int err = ftrace_set_filter(ops, (unsigned char *)name, strlen(name), 1);

	if (!err)
		err = register_ftrace_function(ops);
	if (err)
		forget_function(ops);
	return err;
}

static void end_redirect(struct ftrace_ops *ops)
{
	unregister_ftrace_function(ops);
	forget_function(ops);
}

/* --- an opener who is late ------------------------------------------------- */

/* What an opener calls between finding the disk and the disk's own open(). */
#define OPENERS_CALL "disk_block_events"

static void (*openers_call)(struct gendisk *disk);
static atomic_t nr_late = ATOMIC_INIT(0);

static noinline void wait_and_call(struct gendisk *disk)
{
	pr_info("an opener waits\n");
	while (READ_ONCE(hold_open))
		msleep(20);
	openers_call(disk);
	atomic_dec(&nr_late);
}

static void notrace on_openers_call(unsigned long ip, unsigned long parent_ip,
				    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	if (strcmp(current->comm, "late") || within_module(parent_ip, THIS_MODULE))
		return;
	atomic_inc(&nr_late);
	esnap_ftrace_set_ip(fregs, (unsigned long)wait_and_call);
}

static struct ftrace_ops opener_ops = {
	.func = on_openers_call,
	.flags = FTRACE_OPS_FL_IPMODIFY | ESNAP_FTRACE_FLAGS,
};

/* Where a function is that is exported to nobody: a probe tells. */
static void *address_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	int err = register_kprobe(&probe);

	if (err)
		return ERR_PTR(err);
	unregister_kprobe(&probe);
	return probe.addr;
}

static int hold_openers(void)
{
	void *call = address_of(OPENERS_CALL);
	int err;

	if (IS_ERR(call))
		return PTR_ERR(call);
	openers_call = call;
	err = redirect(&opener_ops, OPENERS_CALL);
	if (err)
		openers_call = NULL;
	return err;
}

/* Nobody may come back into the module when it has gone. */
static void release_openers(void)
{
	end_redirect(&opener_ops);
	WRITE_ONCE(hold_open, false);
	while (atomic_read(&nr_late))
		msleep(20);
	synchronize_rcu_tasks();
}

/* --- the disk -------------------------------------------------------------- */

static int disk_major;
static struct gendisk *disk;
static void *content;

static void transfer(struct bio *bio, void *at)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		void *page = kmap_local_page(bv.bv_page);

		if (op_is_write(bio_op(bio)))
			memcpy(at, page + bv.bv_offset, bv.bv_len);
		else
			memcpy(page + bv.bv_offset, at, bv.bv_len);
		kunmap_local(page);
		at += bv.bv_len;
	}
}

static ESNAP_SUBMIT_RET disk_submit_bio(struct bio *bio)
{
	void *at = content + (bio->bi_iter.bi_sector << SECTOR_SHIFT);

	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		transfer(bio, at);
		break;
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
		memset(at, 0, bio->bi_iter.bi_size);
		break;
	case REQ_OP_FLUSH:
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
	}
	bio_endio(bio);
	return ESNAP_SUBMIT_DONE;
}

static const struct block_device_operations disk_fops = {
	.owner = THIS_MODULE,
	.submit_bio = disk_submit_bio,
};

static void set_limits(struct queue_limits *limits)
{
	blk_set_stacking_limits(limits);
	/* A disk that is not zoned must not have this, from 6.11 on. */
	limits->max_zone_append_sectors = 0;
	limits->discard_granularity = PAGE_SIZE;
	limits->max_hw_discard_sectors = UINT_MAX >> SECTOR_SHIFT;
	limits->max_discard_sectors = UINT_MAX >> SECTOR_SHIFT;
#if defined(HAVE_SECURE_ERASE_LIMIT)
	limits->max_secure_erase_sectors = UINT_MAX >> SECTOR_SHIFT;
#endif
}

static int make_disk(void)
{
	struct queue_limits limits;
	int err = -ENOMEM;

	content = vzalloc((size_t)disk_mib << 20);
	if (!content)
		return -ENOMEM;
	disk_major = register_blkdev(0, DISK_NAME);
	if (disk_major < 0) {
		err = disk_major;
		goto err_content;
	}
	set_limits(&limits);
	disk = esnap_alloc_disk(&limits);
	if (!disk)
		goto err_major;
#if defined(HAVE_DISCARD_FLAGS)
	blk_queue_flag_set(QUEUE_FLAG_DISCARD, disk->queue);
	blk_queue_flag_set(QUEUE_FLAG_SECERASE, disk->queue);
#endif
	disk->major = disk_major;
	disk->minors = 1;
	disk->flags |= ESNAP_DISK_FLAGS;
	disk->fops = &disk_fops;
	snprintf(disk->disk_name, DISK_NAME_LEN, DISK_NAME "0");
	set_capacity(disk, (sector_t)disk_mib << (20 - SECTOR_SHIFT));
	err = esnap_add_disk(disk);
	if (!err)
		return 0;
	esnap_free_disk(disk, false);
err_major:
	unregister_blkdev(disk_major, DISK_NAME);
err_content:
	vfree(content);
	return err;
}

static void remove_disk(void)
{
	del_gendisk(disk);
	esnap_free_disk(disk, true);
	unregister_blkdev(disk_major, DISK_NAME);
	vfree(content);
}

/* --- WRITE SAME ------------------------------------------------------------ */

#if defined(HAVE_ISSUE_WRITE_SAME)
static int issue(struct block_device *bdev, u64 sector, u64 nr)
{
	struct page *page = alloc_page(GFP_KERNEL);
	int err;

	if (!page)
		return -ENOMEM;
	memset(page_address(page), 0xa5, PAGE_SIZE);
	err = blkdev_issue_write_same(bdev, sector, nr, GFP_KERNEL, page);
	__free_page(page);
	return err;
}
#else
static int issue(struct block_device *bdev, u64 sector, u64 nr)
{
	return -EOPNOTSUPP;
}
#endif

static int do_write_same(void)
{
	struct esnap_bdev bdev;
	char device[64];
	u64 sector, nr;
	dev_t dev;
	int err;

	if (sscanf(write_same, "%63[^,],%llu,%llu", device, &sector, &nr) != 3)
		return -EINVAL;
	err = esnap_lookup_bdev(device, &dev);
	if (!err)
		err = esnap_bdev_open(&bdev, dev);
	if (err)
		return err;
	err = issue(bdev.bdev, sector, nr);
	esnap_bdev_close(&bdev);
	return err;
}

/* --- the end of ftrace ----------------------------------------------------- */

static int end_ftrace(void)
{
	void (*end)(void);

	end = address_of("ftrace_kill");
	if (IS_ERR(end))
		return PTR_ERR(end);
	end();
	return 0;
}

/* --- a reboot that waits --------------------------------------------------- */

static int on_reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	pr_info("the machine goes down\n");
	while (READ_ONCE(hold_reboot))
		msleep(20);
	return NOTIFY_DONE;
}

static struct notifier_block reboot_notifier = {
	.notifier_call = on_reboot,
	.priority = INT_MIN,
};

/* --- life ------------------------------------------------------------------ */

static int __init elio_test_init(void)
{
	int err = 0;

	if (write_same)
		err = do_write_same();
	if (!err && kill_ftrace)
		err = end_ftrace();
	if (!err && hold_open)
		err = hold_openers();
	if (!err && ipmodify)
		err = redirect(&ipmodify_ops, ipmodify);
	if (!err && disk_mib) {
		err = make_disk();
		if (err && ipmodify)
			end_redirect(&ipmodify_ops);
	}
	if (err && openers_call)
		release_openers();
	if (!err)
		register_reboot_notifier(&reboot_notifier);
	return err;
}

static void __exit elio_test_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
	if (disk_mib)
		remove_disk();
	if (ipmodify)
		end_redirect(&ipmodify_ops);
	if (openers_call)
		release_openers();
}

module_init(elio_test_init);
module_exit(elio_test_exit);
MODULE_DESCRIPTION("What the tests of elastio-snap need of a kernel");
MODULE_LICENSE("GPL");
