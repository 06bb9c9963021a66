// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for writes that passed the hook and are still on their way.
 *
 * Between the hook and the disk's driver submitters do not sleep, so that after a
 * grace period of tasks they have entered it; but for those whom io.max throttles,
 * who find the queue frozen, or who wait for memory on the way, to split or encrypt
 * what they write.  A kernel without preemption has no grace periods of
 * tasks, and its submitters may be rescheduled on the way: a raw writer who does not
 * get a processor again until all of this is done is not waited for there.
 *
 * Who ends what has entered cannot be known without touching bios that are not ours;
 * but a disk can be brought to a point where it has ended all of it:
 *
 * - a queue of requests, by freezing and thawing it;
 * - a mapped device, by suspending and resuming it the quick way, which asks
 *   nothing of its targets.  What is submitted meanwhile waits.
 *
 * Both twice: the rest of a write that is larger than the device takes at once has
 * passed the hook, too, but enters the queue after its first part.  If it finds the
 * queue frozen for that one it enters before the second grace period ends; what is
 * split off then meets the hook that is there now.
 *
 * A queue stands still for that, for whoever uses the disk, until it has ended reads
 * as well, of other partitions as well: a request without an answer must not hold
 * them up for long.  The quick suspend of a mapped device has no limit of time.
 *
 * Others (md, NVMe's own multipath, drivers that have no queue of requests) have no
 * such point that modules can reach.
 * What is in flight there is a raw write to a mounted device, since the freeze has
 * waited for the filesystem's: it lands before or after the instant like any write
 * that races with it, and the map of the changes before has it.
 */
#include <linux/blkdev.h>
#include <linux/module.h>
#include <linux/rcupdate_wait.h>

#include "compat/dm.h"
#include "drain.h"

/* Nothing else can be done with the disk meanwhile. */
#define TIMEOUT (10 * HZ)

struct dm_calls {
	struct mapped_device *(*get)(dev_t dev);
	void (*put)(struct mapped_device *md);
	void (*suspend)(struct mapped_device *md);
	void (*resume)(struct mapped_device *md);
};

/* Not linked: a machine without mapped devices does not need dm-mod. */
static bool get_calls(struct dm_calls *dm)
{
	dm->get = symbol_get(dm_get_md);
	dm->put = symbol_get(dm_put);
	dm->suspend = symbol_get(dm_internal_suspend_fast);
	dm->resume = symbol_get(dm_internal_resume_fast);
	return dm->get && dm->put && dm->suspend && dm->resume;
}

static void put_calls(struct dm_calls *dm)
{
	if (dm->get)
		symbol_put(dm_get_md);
	if (dm->put)
		symbol_put(dm_put);
	if (dm->suspend)
		symbol_put(dm_internal_suspend_fast);
	if (dm->resume)
		symbol_put(dm_internal_resume_fast);
}

static void drain_mapped_device(dev_t dev)
{
	struct mapped_device *md;
	struct dm_calls dm;

	if (get_calls(&dm)) {
		/* NULL: it is not a mapped device. */
		md = dm.get(dev);
		if (md) {
			dm.suspend(md);
			dm.resume(md);
			dm.put(md);
		}
	}
	put_calls(&dm);
}

int esnap_drain(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);
	int round, err;

	for (round = 0; round < 2; round++) {
		synchronize_rcu_tasks();
		if (!queue_is_mq(q)) {
			drain_mapped_device(disk_devt(bdev->bd_disk));
			continue;
		}
		err = esnap_queue_drain(q, TIMEOUT);
		if (err) {
			pr_err("%pg: its disk has not answered all requests within %u s\n", bdev,
			       TIMEOUT / HZ);
			return err;
		}
	}
	return 0;
}
