// SPDX-License-Identifier: GPL-2.0-only
/* The COW file as a file: creation, pins, finding it again, what user space reads. */
#include <linux/blkdev.h>
#include <linux/buffer_head.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "cowfile.h"
#include "extents.h"
#include "fault.h"

#define COW_FLAGS (esnap_fault("no_pin") ? 0 : S_IMMUTABLE | S_SWAPFILE)

#define CLOSE_WAIT_MS 1000
#define CLOSE_STEP_MS 5

/* Of the superblock of ext2, ext3 and ext4, in words of 32 bits. */
#define EXT4_SUPER_OFFSET 1024
#define EXT4_COMPAT_INDEX (0x5c / 4)
#define EXT4_COMPAT_HAS_JOURNAL 0x4
#define EXT4_DEFAULTS_INDEX (0x100 / 4)
#define EXT4_DEFAULTS_DATA_MASK 0x60
#define EXT4_DEFAULTS_DATA_JOURNAL 0x20

/* By name and magic: others have blocks that move, or report other addresses. */
static const struct {
	const char *name;
	unsigned long magic;
} supported[] = {
	{ "ext2", EXT2_SUPER_MAGIC },
	{ "ext3", EXT3_SUPER_MAGIC },
	{ "ext4", EXT4_SUPER_MAGIC },
	{ "xfs", XFS_SUPER_MAGIC },
};

bool esnap_cowfile_supported(struct super_block *sb)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(supported); i++)
		if (sb->s_magic == supported[i].magic &&
		    !strcmp(sb->s_type->name, supported[i].name))
			return true;
	return false;
}

struct file_system_type *esnap_cowfile_fs_type(unsigned int i)
{
	struct file_system_type *type = NULL;

	while (i < ARRAY_SIZE(supported) && !type)
		type = get_fs_type(supported[i++].name);
	return type;
}

/* --- pins ------------------------------------------------------------------ */

/* Is this among the mount options that /proc/mounts would show? */
static bool has_mount_option(struct super_block *sb, const char *option)
{
	struct seq_file m = { .size = PAGE_SIZE };
	bool found;

	if (!sb->s_op->show_options)
		return false;
	m.buf = (void *)get_zeroed_page(GFP_KERNEL | __GFP_NOFAIL);
	sb->s_op->show_options(&m, sb->s_root);
	/* A page that overflowed may have cut it off: say yes. */
	found = m.count >= m.size - 1 || strstr(m.buf, option);
	free_page((unsigned long)m.buf);
	return found;
}

bool esnap_cowfile_unrecovered(struct super_block *sb)
{
	return sb_rdonly(sb) &&
	       (bdev_read_only(sb->s_bdev) || has_mount_option(sb, ",norecovery"));
}

/* Does the superblock of an ext4 ask for data=journal where no option says otherwise? */
static bool journals_data_by_default(struct super_block *sb)
{
	struct buffer_head *bh;
	const __le32 *super;
	bool journals;

	if (sb->s_magic != EXT4_SUPER_MAGIC)
		return false;
	bh = sb_bread(sb, EXT4_SUPER_OFFSET / sb->s_blocksize);
	if (!bh)
		return true;
	super = (void *)bh->b_data + EXT4_SUPER_OFFSET % sb->s_blocksize;
	journals = le32_to_cpu(super[EXT4_COMPAT_INDEX]) & EXT4_COMPAT_HAS_JOURNAL &&
		   (le32_to_cpu(super[EXT4_DEFAULTS_INDEX]) & EXT4_DEFAULTS_DATA_MASK) ==
			   EXT4_DEFAULTS_DATA_JOURNAL;
	brelse(bh);
	return journals;
}

/* What is the default is not shown among the options. */
static bool journals_data(struct super_block *sb)
{
	return has_mount_option(sb, ",data=journal") ||
	       (journals_data_by_default(sb) && !has_mount_option(sb, ",data="));
}

/*
 * Why the blocks of this file could move or change under us, or NULL.  @file is
 * open, or NULL.
 */
static const char *unusable_inode(struct dentry *dentry, struct file *file)
{
	struct inode *inode = d_inode(dentry);
	struct esnap_file_flags f;

	if (IS_ENCRYPTED(inode))
		return "it is encrypted";
	if (IS_VERITY(inode))
		return "it has fs-verity";
	if (IS_DAX(inode))
		return "it is a DAX file";
	if (esnap_get_file_flags(dentry, file, &f))
		return "its flags cannot be read";
	/* A checkpoint or a journal replay would rewrite the blocks. */
	if (f.flags & FS_JOURNAL_DATA_FL || journals_data(inode->i_sb))
		return "its data is journalled";
	if (f.xflags & FS_XFLAG_REALTIME)
		return "it is on a realtime device";
	return NULL;
}

static int check_usable(struct dentry *dentry, struct file *file, const char *path)
{
	const char *why = unusable_inode(dentry, file);

	if (!why)
		return 0;
	pr_err("COW file %s cannot be used: %s\n", path, why);
	return -EOPNOTSUPP;
}

/*
 * To be called when the flags were set: who has looked at them before holds the
 * directory until he has deleted the file.  -ENOENT: so somebody has.
 */
static int await_deletion(struct dentry *dentry)
{
	struct dentry *parent = dget_parent(dentry);

	inode_lock(d_inode(parent));
	inode_unlock(d_inode(parent));
	dput(parent);
	return d_unhashed(dentry) || !d_inode(dentry)->i_nlink ? -ENOENT : 0;
}

/* @own_writers: how many of the writers are us. */
static int pin(struct esnap_cowfile *cf, struct dentry *dentry, int own_writers)
{
	struct inode *inode = d_inode(dentry);
	int err = 0;

	inode_lock(inode);
	if (IS_IMMUTABLE(inode) || IS_SWAPFILE(inode))
		err = -EPERM;
	else if (!inode->i_nlink || d_unhashed(dentry))
		err = -ENOENT;
	else
		inode_set_flags(inode, COW_FLAGS, COW_FLAGS);
	/* After the flags: who has looked at them before, without the lock, has it open. */
	smp_mb();
	if (!err && atomic_read(&inode->i_writecount) > own_writers) {
		inode_set_flags(inode, 0, COW_FLAGS);
		err = -EBUSY;
	}
	inode_unlock(inode);
	if (err)
		return err;

	cf->dentry = dget(dentry);
	err = await_deletion(dentry);
	if (!err)
		err = filemap_write_and_wait(inode->i_mapping);
	if (err) {
		esnap_cowfile_unpin(cf);
		return err;
	}
	inode_dio_wait(inode);
	return 0;
}

static void clear_flags(struct inode *inode)
{
	inode_lock(inode);
	inode_set_flags(inode, 0, COW_FLAGS);
	inode_unlock(inode);
}

void esnap_cowfile_unpin(struct esnap_cowfile *cf)
{
	if (!cf->dentry)
		return;
	clear_flags(d_inode(cf->dentry));
	dput(cf->dentry);
	cf->dentry = NULL;
}

static int unlink_dentry(struct dentry *dentry)
{
	struct dentry *parent = dget_parent(dentry);
	struct inode *dir = d_inode(parent);
	int err = -ENOENT;

	/* With one reference only, the dentry would lose its inode under an open file. */
	dget(dentry);

	inode_lock_nested(dir, I_MUTEX_PARENT);
	if (dentry->d_parent == parent && !d_unhashed(dentry))
		err = esnap_unlink(dir, dentry);
	inode_unlock(dir);
	dput(dentry);
	dput(parent);
	return err;
}

void esnap_cowfile_remove(struct esnap_cowfile *cf)
{
	struct super_block *sb;
	bool writes;
	int err;

	if (!cf->dentry)
		return;
	sb = cf->dentry->d_sb;
	clear_flags(d_inode(cf->dentry));
	/* A filesystem that somebody froze must not hold us up: leave the file. */
	writes = sb_start_write_trylock(sb);
	err = writes ? unlink_dentry(cf->dentry) : -EBUSY;
	if (err)
		pr_warn("COW file %pd2 could not be deleted (%d): delete it by hand\n",
			cf->dentry, err);
	/* The last reference frees the blocks, for which a frozen one would wait. */
	dput(cf->dentry);
	cf->dentry = NULL;
	if (writes)
		sb_end_write(sb);
}

static int cut(struct esnap_cowfile *cf, u64 size)
{
	struct iattr attr = { .ia_valid = ATTR_SIZE, .ia_size = size };
	struct dentry *dentry = cf->dentry;
	struct inode *inode = d_inode(dentry);
	int err;

	if (!sb_start_write_trylock(inode->i_sb))
		return -EBUSY;
	if (sb_rdonly(inode->i_sb)) {
		sb_end_write(inode->i_sb);
		return -EROFS;
	}
	inode_lock(inode);
	inode_set_flags(inode, 0, COW_FLAGS);
	err = esnap_change_attributes(dentry, &attr);
	inode_set_flags(inode, COW_FLAGS, COW_FLAGS);
	inode_unlock(inode);
	sb_end_write(inode->i_sb);
	return err;
}

/*
 * While the file is pinned nobody but its set-up has it open for writing, and that
 * ends as late as the set-up's caller, who may be another one, is in user space.
 */
static void await_own_close(const struct inode *inode)
{
	int waited;

	for (waited = 0; atomic_read(&inode->i_writecount) > 0 && waited < CLOSE_WAIT_MS;
	     waited += CLOSE_STEP_MS)
		msleep(CLOSE_STEP_MS);
}

int esnap_cowfile_shrink(struct esnap_cowfile *cf, u64 size, u64 nr_sectors,
			 struct esnap_map **map)
{
	struct inode *inode = d_inode(cf->dentry);
	int err;

	await_own_close(inode);
	err = cut(cf, size);
	/*
	 * The flags were off for a moment: who has opened it for writing then may be
	 * about to free or to move its blocks.
	 */
	*map = ERR_PTR(await_deletion(cf->dentry));
	if (!*map && atomic_read(&inode->i_writecount) > 0)
		*map = ERR_PTR(-ETXTBSY);
	if (!*map && !err)
		*map = esnap_extents_map(inode, size, nr_sectors);
	return err;
}

void esnap_cowfile_abandon(struct esnap_cowfile *cf)
{
	if (cf->created || !cf->dentry) {
		esnap_cowfile_remove(cf);
		return;
	}
	if (cut(cf, 0))
		pr_warn("COW file %pd2 keeps the space of the failed attempt\n", cf->dentry);
	esnap_cowfile_unpin(cf);
}

/* --- creation -------------------------------------------------------------- */

/* Is the file empty, or a COW file that nobody uses? */
static int may_take_over(struct file *file)
{
	__le32 magic;
	loff_t pos = 0;
	ssize_t got;

	if (!i_size_read(file_inode(file)))
		return 0;
	got = kernel_read(file, &magic, sizeof(magic), &pos);
	if (got < 0)
		return got;
	if (got == sizeof(magic) && (le32_to_cpu(magic) == ELASTIO_SNAP_COW_MAGIC ||
				     le32_to_cpu(magic) == ELASTIO_SNAP_COW_MAGIC_RAW))
		return 0;
	return -EEXIST;
}

/* @file is ours, open for writing: has somebody else the file open? */
static bool has_other_users(struct file *file)
{
	struct inode *inode = file_inode(file);

	return atomic_read(&inode->i_readcount) || atomic_read(&inode->i_writecount) > 1;
}

static int check_users(struct file *file, const char *path)
{
	if (!has_other_users(file))
		return 0;
	pr_err("COW file %s cannot be used: somebody has it open\n", path);
	return -EBUSY;
}

/*
 * On some filesystems whoever may read the file reads what is saved in its blocks,
 * and that is anybody's.  A file that was made here is private from the start.
 */
static int make_private(struct dentry *dentry)
{
	struct iattr attr = {
		.ia_valid = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_CTIME | ATTR_FORCE,
		.ia_mode = S_IFREG,
		.ia_uid = GLOBAL_ROOT_UID,
		.ia_gid = GLOBAL_ROOT_GID,
	};
	struct inode *inode = d_inode(dentry);
	int err;

	if (!sb_start_write_trylock(inode->i_sb))
		return -EBUSY;
	inode_lock(inode);
	err = esnap_change_attributes(dentry, &attr);
	inode_unlock(inode);
	sb_end_write(inode->i_sb);
	return err;
}

/* Is it as open_or_create() makes it, so that nothing is lost with it? */
static bool is_new(struct file *file)
{
	struct inode *inode = file_inode(file);

	return inode->i_mode == S_IFREG && !i_size_read(inode) && inode->i_nlink == 1 &&
	       uid_eq(inode->i_uid, current_fsuid()) && !has_other_users(file);
}

/* O_NONBLOCK: a FIFO or a device at that path must not make us wait. */
static struct file *open_or_create(const char *path, bool *created)
{
	int flags = O_RDWR | O_LARGEFILE | O_NOFOLLOW | O_NONBLOCK;
	struct file *file = filp_open(path, flags | O_CREAT | O_EXCL, 0);
	int err = PTR_ERR_OR_ZERO(file);

	*created = !err;
	if (!err)
		return file;
	/*
	 * There already; or else it may have been made before the open failed, without
	 * memory: whoever fails behind this must know that it is to be deleted.
	 */
	file = filp_open(path, flags, 0);
	if (err == -EEXIST)
		return file;
	if (IS_ERR(file))
		return ERR_PTR(err);
	*created = is_new(file);
	return file;
}

/* Filesystems without fallocate: zeros make the blocks. */
static int fill_with_zeros(struct file *file, u64 size)
{
	void *zeros = (void *)get_zeroed_page(GFP_KERNEL);
	loff_t pos = 0;
	int err = 0;

	if (!zeros)
		return -ENOMEM;
	while (pos < size) {
		ssize_t n = kernel_write(file, zeros, min_t(u64, PAGE_SIZE, size - pos), &pos);

		if (n <= 0 || fatal_signal_pending(current)) {
			err = n < 0 ? n : n ? -EINTR : -ENOSPC;
			break;
		}
		cond_resched();
	}
	free_page((unsigned long)zeros);
	return err;
}

static int allocate(struct file *file, u64 size)
{
	int err;

	if (size > file_inode(file)->i_sb->s_maxbytes)
		return -EFBIG;
	err = vfs_fallocate(file, 0, 0, size);
	if (err == -EOPNOTSUPP)
		err = fill_with_zeros(file, size);
	return err;
}

int esnap_cowfile_write_header(struct file *file, const struct esnap_header *header)
{
	void *page = (void *)__get_free_page(GFP_KERNEL);
	loff_t pos = 0;
	ssize_t n;

	if (!page)
		return -ENOMEM;
	esnap_header_encode(header, page);
	n = kernel_write(file, page, ELASTIO_SNAP_HEADER_SIZE, &pos);
	free_page((unsigned long)page);
	return n == ELASTIO_SNAP_HEADER_SIZE ? 0 : n < 0 ? n : -EIO;
}

static char *path_from_root(struct dentry *dentry)
{
	char *buf = kmalloc(ELASTIO_SNAP_PATH_MAX, GFP_KERNEL);
	char *path, *copy;

	if (!buf)
		return ERR_PTR(-ENOMEM);
	path = dentry_path_raw(dentry, buf, ELASTIO_SNAP_PATH_MAX);
	copy = IS_ERR(path) ? path : kstrdup(path, GFP_KERNEL);
	kfree(buf);
	return copy ?: ERR_PTR(-ENOMEM);
}

char *esnap_cowfile_path(const struct esnap_cowfile *cf)
{
	return cf->dentry ? path_from_root(cf->dentry) : NULL;
}

/* Of what was made here; an error: it is still there, and the log says so. */
static int delete_created(struct file *file, const char *path)
{
	int err = mnt_want_write_file(file);

	if (!err) {
		err = unlink_dentry(file->f_path.dentry);
		mnt_drop_write_file(file);
	}
	if (err)
		pr_warn("COW file %s could not be deleted (%d): delete it by hand\n", path, err);
	return err;
}

int esnap_cowfile_create(struct esnap_cowfile *cf, const char *path,
			 struct super_block *sb, u64 size, u64 nr_sectors,
			 const struct esnap_header *header,
			 struct esnap_map **map, char **path_out)
{
	struct esnap_map *extents;
	struct dentry *dentry;
	struct inode *inode;
	struct file *file;
	bool created, emptied = false;
	char *from_root;
	int err;

	cf->dentry = NULL;
	cf->size = size;
	file = open_or_create(path, &created);
	if (IS_ERR(file))
		return PTR_ERR(file);
	inode = file_inode(file);
	dentry = file->f_path.dentry;

	err = -EEXIST;
	if (!S_ISREG(inode->i_mode)) {
		pr_err("%s is not a regular file\n", path);
		goto err_file;
	}
	err = -EINVAL;
	if (inode->i_sb != sb) {
		pr_err("COW file %s is not on the origin's filesystem\n", path);
		goto err_file;
	}
	err = check_usable(dentry, file, path);
	if (err)
		goto err_file;
	if (!created) {
		err = may_take_over(file);
		if (!err)
			err = check_users(file, path);
		if (!err)
			err = make_private(dentry);
		if (!err)
			err = vfs_truncate(&file->f_path, 0);
		if (err)
			goto err_file;
		emptied = true;
	}

	err = allocate(file, size);
	if (err)
		goto err_file;
	err = esnap_cowfile_write_header(file, header);
	if (err)
		goto err_file;
	err = vfs_fsync(file, 0);
	if (err)
		goto err_file;
	from_root = path_from_root(dentry);
	err = PTR_ERR_OR_ZERO(from_root);
	if (err)
		goto err_file;
	err = pin(cf, dentry, 1);
	if (err)
		goto err_path;
	/* Until there were blocks the flags could be changed. */
	err = check_usable(dentry, file, path);
	/* Who had opened it before it was private goes on reading it. */
	if (!err && !created)
		err = check_users(file, path);
	if (err)
		goto err_pin;
	extents = esnap_extents_map(inode, size, nr_sectors);
	err = PTR_ERR_OR_ZERO(extents);
	if (err) {
		pr_err("COW file %s: its extents cannot be used (%d)\n", path, err);
		goto err_pin;
	}
	fput(file);
	cf->created = created;
	*path_out = from_root;
	*map = extents;
	return 0;

err_pin:
	esnap_cowfile_unpin(cf);
err_path:
	kfree(from_root);
err_file:
	/* What was there before stays, without the space that was not enough. */
	if ((created ? delete_created(file, path) : emptied) && vfs_truncate(&file->f_path, 0))
		pr_warn("COW file %s keeps the space of the failed attempt\n", path);
	fput(file);
	return err;
}

/* --- finding it again ------------------------------------------------------- */

/* One component after the other, without a mount; symlinks are not followed. */
static struct dentry *lookup_from_root(struct super_block *sb, const char *path)
{
	struct dentry *dentry = dget(sb->s_root);

	while (*path && !IS_ERR(dentry)) {
		int len = strcspn(path, "/");
		struct dentry *parent = dentry;

		if (len && !(len == 1 && *path == '.')) {
			dentry = d_is_dir(parent) ? esnap_lookup_child(parent, path, len) :
						    ERR_PTR(-ENOTDIR);
			dput(parent);
		}
		path += len + (path[len] == '/');
	}
	return dentry;
}

/*
 * Nobody knows at which directory the filesystem will be mounted: so leading
 * directories are left out, one by one, until something is there.
 */
static struct dentry *find(struct super_block *sb, const char *path)
{
	struct dentry *dentry;

	do {
		path += strspn(path, "/");
		dentry = lookup_from_root(sb, path);
		path += strcspn(path, "/");
		/* Of "..", which leads nowhere here. */
		if (PTR_ERR_OR_ZERO(dentry) == -ENOTDIR || PTR_ERR_OR_ZERO(dentry) == -EACCES)
			dentry = ERR_PTR(-ENOENT);
	} while (*path && PTR_ERR_OR_ZERO(dentry) == -ENOENT);
	return dentry;
}

/* The mounting task's rights do not matter. */
static struct dentry *find_as_kernel(struct super_block *sb, const char *path)
{
	struct cred *kernel = prepare_kernel_cred(&init_task);
	const struct cred *own;
	struct dentry *dentry;

	if (!kernel)
		return ERR_PTR(-ENOMEM);
	own = override_creds(kernel);
	dentry = find(sb, path);
	revert_creds(own);
	put_cred(kernel);
	return dentry;
}

int esnap_cowfile_adopt(struct esnap_cowfile *cf, struct super_block *sb, const char *path,
			u64 size, u64 nr_sectors, struct esnap_map **map, char **path_out)
{
	struct dentry *dentry = find_as_kernel(sb, path);
	struct esnap_map *extents;
	struct inode *inode;
	char *from_root;
	int err;

	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	inode = d_inode(dentry);
	err = -EINVAL;
	if (!S_ISREG(inode->i_mode))
		goto out;
	if (!size)
		size = round_down(i_size_read(inode), ELASTIO_SNAP_BLOCK_SIZE);
	if (!size || i_size_read(inode) < size)
		goto out;
	err = check_usable(dentry, NULL, path);
	if (err)
		goto out;
	from_root = path_from_root(dentry);
	err = PTR_ERR_OR_ZERO(from_root);
	if (err)
		goto out;
	err = pin(cf, dentry, 0);
	if (err)
		goto err_path;
	extents = esnap_extents_map(inode, size, nr_sectors);
	err = PTR_ERR_OR_ZERO(extents);
	if (err)
		goto err_pin;
	dput(dentry);
	*path_out = from_root;
	*map = extents;
	return 0;

err_pin:
	esnap_cowfile_unpin(cf);
err_path:
	kfree(from_root);
out:
	dput(dentry);
	return err;
}

struct file *esnap_cowfile_open(struct dentry *dentry, const char *neighbour)
{
	struct path path, old;
	struct file *file;
	int err;

	err = kern_path(neighbour, 0, &path);
	if (err)
		return ERR_PTR(err);
	if (path.dentry->d_sb != dentry->d_sb) {
		path_put(&path);
		return ERR_PTR(-EXDEV);
	}
	old.mnt = path.mnt;
	old.dentry = dentry;
	file = dentry_open(&old, O_RDWR | O_LARGEFILE, current_cred());
	path_put(&path);
	return file;
}
