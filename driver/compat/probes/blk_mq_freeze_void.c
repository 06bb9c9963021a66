// SPDX-License-Identifier: GPL-2.0-only
/* Until 1e1a9cecfab3 (6.14): blk_mq_freeze_queue() returns nothing. */
#include <linux/module.h>
#include <linux/blk-mq.h>

void probe(struct request_queue *q);
void probe(struct request_queue *q)
{
	blk_mq_freeze_queue(q);
	blk_mq_unfreeze_queue(q);
}
MODULE_LICENSE("GPL");
