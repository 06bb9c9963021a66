// SPDX-License-Identifier: GPL-2.0-only
/* 74fa8f9c553f (6.9): blk_alloc_disk(limits, node). */
#include <linux/module.h>
#include <linux/blkdev.h>

struct gendisk *probe(struct queue_limits *limits);
struct gendisk *probe(struct queue_limits *limits)
{
	return blk_alloc_disk(limits, NUMA_NO_NODE);
}
MODULE_LICENSE("GPL");
