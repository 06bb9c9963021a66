/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_EXTENTS_H
#define ESNAP_EXTENTS_H

#include "store.h"

struct inode;

/*
 * The extents of the first @size bytes of a pinned file, all of which must lie
 * within @nr_sectors of its device and belong to it alone.  Needs a caller with
 * memory of its own.  -EOPNOTSUPP: there are extents that cannot be used;
 * -EIO: holes, or nonsense.  Sleeps.
 */
struct esnap_map *esnap_extents_map(struct inode *inode, u64 size, u64 nr_sectors);

#endif /* ESNAP_EXTENTS_H */
