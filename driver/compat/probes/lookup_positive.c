// SPDX-License-Identifier: GPL-2.0-only
/* 6c2d4798a8d1 (5.5): lookup_positive_unlocked(). */
#include <linux/module.h>
#include <linux/namei.h>

struct dentry *probe(struct dentry *dir, const char *name, int len);
struct dentry *probe(struct dentry *dir, const char *name, int len)
{
	return lookup_positive_unlocked(name, dir, len);
}
MODULE_LICENSE("GPL");
