/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_COWFILE_H
#define ESNAP_COWFILE_H

#include <linux/fs.h>

#include "esnap.h"
#include "header.h"
#include "store.h"

/*
 * The COW file as the filesystem sees it.  While it is pinned nobody can
 * write, truncate, unlink or move it; the pin is an inode and a dentry
 * reference, no open file and no mount, so that nothing becomes busy.
 */
struct esnap_cowfile {
	struct dentry *dentry;
	u64 size;
	/* It was not there before. */
	bool created;
};

/* All of these sleep, and none is called on the I/O path. */

/* Is this a filesystem whose extents may be written behind its back? */
bool esnap_cowfile_supported(struct super_block *sb);

/* The @i-th type of such filesystems, with a reference on its module; NULL: no more. */
struct file_system_type *esnap_cowfile_fs_type(unsigned int i);

/* Is it mounted read-only, without the recovery that it may need? */
bool esnap_cowfile_unrecovered(struct super_block *sb);

/* Its path from the filesystem's root as it is now, kmalloced; NULL: not pinned; or an error. */
char *esnap_cowfile_path(const struct esnap_cowfile *cf);

/*
 * Creates (or takes over) the file at @path, which must be on @sb, gives it
 * @size bytes and a header, pins it and maps its extents, all of which must lie
 * within @nr_sectors of the origin.  The caller holds an active reference on
 * @sb.  Returns an errno of spec; nothing is left behind then.
 *
 * @path_out: the path from the filesystem's root, kmalloced.
 */
int esnap_cowfile_create(struct esnap_cowfile *cf, const char *path,
			 struct super_block *sb, u64 size, u64 nr_sectors,
			 const struct esnap_header *header,
			 struct esnap_map **map, char **path_out);

/*
 * Finds the file again on a filesystem that is being mounted, pins it and maps
 * its first @size bytes; 0: all of it, in whole blocks.  @path is as users give
 * it: from the filesystem's root, or with the directory that it is mounted at
 * in front.  Changes nothing.  -ENOENT: no such file; -EINVAL: it is no regular
 * file or shorter; other errnos: it cannot be used.
 *
 * @path_out: as in esnap_cowfile_create().
 */
int esnap_cowfile_adopt(struct esnap_cowfile *cf, struct super_block *sb, const char *path,
			u64 size, u64 nr_sectors, struct esnap_map **map, char **path_out);

/* Makes it an ordinary file again.  The store must be closed. */
void esnap_cowfile_unpin(struct esnap_cowfile *cf);

/* Unpins and unlinks.  The store must be closed; @sb must be active. */
void esnap_cowfile_remove(struct esnap_cowfile *cf);

/*
 * Undoes esnap_cowfile_create(): removes what that created; a file that was taken
 * over stays, empty.  As for esnap_cowfile_remove().
 */
void esnap_cowfile_abandon(struct esnap_cowfile *cf);

/*
 * Cuts the file to @size.  The store must be closed.  On an error it is as it was.
 *
 * @map: what is left; NULL after an error; an ERR_PTR: its blocks are not known any
 * more, whatever is returned.
 */
int esnap_cowfile_shrink(struct esnap_cowfile *cf, u64 size, u64 nr_sectors,
			 struct esnap_map **map);

/*
 * Opens an unpinned COW file for writing through the VFS, on the mount of
 * @neighbour.
 */
struct file *esnap_cowfile_open(struct dentry *dentry, const char *neighbour);

int esnap_cowfile_write_header(struct file *file, const struct esnap_header *header);

#endif /* ESNAP_COWFILE_H */
