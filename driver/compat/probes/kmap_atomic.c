// SPDX-License-Identifier: GPL-2.0-only
/* Until f3ba3c710ac5 (5.11) the only mapping of a page without a lock. */
#include <linux/module.h>
#include <linux/highmem.h>

void probe(struct page *page);
void probe(struct page *page)
{
	kunmap_atomic(kmap_atomic(page));
}
MODULE_LICENSE("GPL");
