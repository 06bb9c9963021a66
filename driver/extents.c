// SPDX-License-Identifier: GPL-2.0-only
/* Where the blocks of a file are, as its filesystem tells. */
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "extents.h"

#define SCRATCH_SIZE (64 * 1024)
#define SCRATCH_EXTENTS (SCRATCH_SIZE / sizeof(struct fiemap_extent))
#define MAX_EXTENTS BIT(20)

/*
 * Only SHARED, DELALLOC and the like make an extent unusable; unwritten ones
 * are what fallocate leaves, and LAST and MERGED say nothing about the blocks.
 */
#define BAD_EXTENT_FLAGS \
	(FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED | \
	 FIEMAP_EXTENT_DATA_ENCRYPTED | FIEMAP_EXTENT_NOT_ALIGNED | \
	 FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_SHARED)

struct extent_list {
	struct esnap_extent *extents;
	u32 nr;
	u32 room;
};

static int append(struct extent_list *list, u64 file, u64 disk, u64 nr)
{
	struct esnap_extent *last = list->nr ? &list->extents[list->nr - 1] : NULL;

	if (last && last->disk_sector + last->nr_sectors == disk) {
		last->nr_sectors += nr;
		return 0;
	}
	if (list->nr == list->room) {
		u32 room = max_t(u32, 64, list->room * 2);
		struct esnap_extent *more;

		if (room > MAX_EXTENTS)
			return -EFBIG;
		more = kvmalloc_array(room, sizeof(*more), GFP_KERNEL);
		if (!more)
			return -ENOMEM;
		memcpy(more, list->extents, list->nr * sizeof(*more));
		kvfree(list->extents);
		list->extents = more;
		list->room = room;
	}
	list->extents[list->nr++] = (struct esnap_extent){ file, disk, nr };
	return 0;
}

/*
 * One round of fiemap into the scratch area.  Every field is checked, since
 * another thread of the caller can write to that area.  Returns the bytes
 * covered so far.
 */
static int collect(struct inode *inode, unsigned long scratch, u64 size, u64 nr_sectors,
		   u64 *covered, struct extent_list *list)
{
	struct fiemap_extent_info info = {
		.fi_flags = FIEMAP_FLAG_SYNC,
		.fi_extents_max = SCRATCH_EXTENTS,
		.fi_extents_start = (struct fiemap_extent __user *)scratch,
	};
	u64 before = *covered;
	unsigned int i;
	int err;

	err = inode->i_op->fiemap(inode, &info, *covered, size - *covered);
	if (err)
		return err;
	for (i = 0; i < info.fi_extents_mapped && *covered < size; i++) {
		struct fiemap_extent e;
		u64 nr;

		if (copy_from_user(&e, &info.fi_extents_start[i], sizeof(e)))
			return -EFAULT;
		if (e.fe_flags & BAD_EXTENT_FLAGS) {
			pr_err("COW file: extent with flags 0x%x cannot be used\n", e.fe_flags);
			return -EOPNOTSUPP;
		}
		if (e.fe_logical > *covered || e.fe_logical + e.fe_length <= *covered)
			return -EIO;
		/* The first extent of a round may begin before what was asked for. */
		e.fe_physical += *covered - e.fe_logical;
		e.fe_length = min(e.fe_length - (*covered - e.fe_logical), size - *covered);
		nr = e.fe_length >> SECTOR_SHIFT;
		if ((e.fe_physical | e.fe_length) & (SECTOR_SIZE - 1) ||
		    (e.fe_physical >> SECTOR_SHIFT) + nr > nr_sectors)
			return -EIO;
		err = append(list, *covered >> SECTOR_SHIFT, e.fe_physical >> SECTOR_SHIFT, nr);
		if (err)
			return err;
		*covered += e.fe_length;
	}
	return *covered == before ? -EIO : 0;
}

static struct esnap_map *map_once(struct inode *inode, u64 size, u64 nr_sectors)
{
	struct extent_list list = {};
	struct esnap_map *map;
	unsigned long scratch;
	u64 covered = 0;
	int err = 0;

	scratch = vm_mmap(NULL, 0, SCRATCH_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, 0);
	if (IS_ERR_VALUE(scratch))
		return ERR_PTR((long)scratch);
	while (!err && covered < size)
		err = collect(inode, scratch, size, nr_sectors, &covered, &list);
	vm_munmap(scratch, SCRATCH_SIZE);
	if (err) {
		kvfree(list.extents);
		return ERR_PTR(err);
	}
	map = esnap_map_make(list.extents, list.nr);
	return map ?: ERR_PTR(-ENOMEM);
}

/* Read twice and compared: the scratch area is the caller's memory. */
struct esnap_map *esnap_extents_map(struct inode *inode, u64 size, u64 nr_sectors)
{
	struct esnap_map *map, *again;
	bool same;

	if (!inode->i_op->fiemap || !current->mm)
		return ERR_PTR(-EOPNOTSUPP);
	map = map_once(inode, size, nr_sectors);
	if (IS_ERR(map))
		return map;
	again = map_once(inode, size, nr_sectors);
	if (IS_ERR(again)) {
		esnap_map_free(map);
		return again;
	}
	same = esnap_map_equal(map, again);
	esnap_map_free(again);
	if (!same) {
		esnap_map_free(map);
		return ERR_PTR(-EAGAIN);
	}
	return map;
}
