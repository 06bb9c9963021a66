// SPDX-License-Identifier: GPL-2.0-only
/* 1e1a9cecfab3 (6.14): blk_mq_freeze_queue() returns flags for the thaw. */
#include <linux/module.h>
#include <linux/blk-mq.h>

void probe(struct request_queue *q);
void probe(struct request_queue *q)
{
	unsigned int flags = blk_mq_freeze_queue(q);

	blk_mq_unfreeze_queue(q, flags);
}
MODULE_LICENSE("GPL");
