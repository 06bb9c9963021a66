// SPDX-License-Identifier: GPL-2.0-only
/* fa6fe07d1536 (6.16): lookup_noperm_positive_unlocked(), and no lookup_positive_unlocked(). */
#include <linux/module.h>
#include <linux/namei.h>

struct dentry *probe(struct dentry *dir, const char *name, int len);
struct dentry *probe(struct dentry *dir, const char *name, int len)
{
	return lookup_noperm_positive_unlocked(&QSTR_LEN(name, len), dir);
}
MODULE_LICENSE("GPL");
