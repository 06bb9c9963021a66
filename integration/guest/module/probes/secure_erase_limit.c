// SPDX-License-Identifier: GPL-2.0-only
/* 44abff2c0b97 (5.19): secure erases have a limit of their own. */
#include <linux/module.h>
#include <linux/blkdev.h>

unsigned int probe(struct queue_limits *limits);
unsigned int probe(struct queue_limits *limits)
{
	return limits->max_secure_erase_sectors;
}
MODULE_LICENSE("GPL");
