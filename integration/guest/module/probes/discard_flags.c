// SPDX-License-Identifier: GPL-2.0-only
/* Until 44abff2c0b97 (5.19): flags of the queue allow discards and secure erases. */
#include <linux/module.h>
#include <linux/blkdev.h>

int probe = QUEUE_FLAG_DISCARD | QUEUE_FLAG_SECERASE;
MODULE_LICENSE("GPL");
