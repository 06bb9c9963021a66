// SPDX-License-Identifier: GPL-2.0-only
/* Compiles on every kernel: proves that the build tree works. */
#include <linux/module.h>
MODULE_LICENSE("GPL");
