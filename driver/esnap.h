/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Words that all files share.  A block is 4096 bytes of the origin, counted
 * from the origin's start; sectors are 512 bytes.
 */
#ifndef ESNAP_H
#define ESNAP_H

#include <linux/types.h>

#include "elastio-snap.h"

#ifdef pr_fmt
#undef pr_fmt
#endif
#define pr_fmt(fmt) "elastio-snap: " fmt

#define ESNAP_VERSION "0.1.0"

#define ESNAP_BLOCK_SHIFT 12
#define ESNAP_SECTOR_TO_BLOCK_SHIFT 3

/* Most blocks that are read, or written to the store, by one bio: 1 MiB. */
#define ESNAP_RUN_BLOCKS 256

/* Entries in one page of the index. */
#define ESNAP_PAGE_ENTRIES 512

/* Module parameters, defined in main.c. */
extern unsigned long esnap_cache_default;
extern unsigned int esnap_cow_percentage;
extern unsigned int esnap_max_devices;
extern unsigned int esnap_pending_max_mib;
extern int esnap_debug_level;

#define esnap_debug(fmt, ...)                           \
	do {                                            \
		if (READ_ONCE(esnap_debug_level))       \
			pr_info(fmt, ##__VA_ARGS__);    \
	} while (0)

#endif /* ESNAP_H */
