// SPDX-License-Identifier: GPL-2.0-only
/* f3ba3c710ac5 (5.11): kmap_local_page(). */
#include <linux/module.h>
#include <linux/highmem.h>

void probe(struct page *page);
void probe(struct page *page)
{
	kunmap_local(kmap_local_page(page));
}
MODULE_LICENSE("GPL");
