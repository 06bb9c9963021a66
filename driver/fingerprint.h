/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_FINGERPRINT_H
#define ESNAP_FINGERPRINT_H

#include <linux/types.h>

struct bio_set;
struct block_device;
struct page;

/*
 * A number that changes with whatever the filesystem on @bdev writes, read from
 * the device itself; 0: the filesystem offers none.  @page: to read it into;
 * @bios: to read it with, whose bios nobody holds who waits for this.
 * Returns a negative errno when the device cannot be read.  Sleeps.
 */
int esnap_fingerprint(struct block_device *bdev, struct bio_set *bios, struct page *page,
		      u64 *fingerprint);

#endif /* ESNAP_FINGERPRINT_H */
