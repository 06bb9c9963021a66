// SPDX-License-Identifier: GPL-2.0-only
/* Until 70200574cc22 (5.19): the queue has a flag for discards. */
#include <linux/module.h>
#include <linux/blkdev.h>

bool probe(struct request_queue *q);
bool probe(struct request_queue *q)
{
	return blk_queue_discard(q);
}
MODULE_LICENSE("GPL");
