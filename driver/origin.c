// SPDX-License-Identifier: GPL-2.0-only
/* The device that is tracked, and the filesystem on it: what users name by paths. */
#include <linux/blkdev.h>
#include <linux/namei.h>
#include <linux/slab.h>

#include "hibernate.h"
#include "registry.h"
#include "tracker.h"

static char *resolved_path(const char *name)
{
	char *buf, *path, *copy;
	struct path p;
	int err;

	err = kern_path(name, LOOKUP_FOLLOW, &p);
	if (err)
		return ERR_PTR(err);
	buf = kmalloc(ELASTIO_SNAP_PATH_MAX, GFP_KERNEL);
	path = buf ? d_path(&p, buf, ELASTIO_SNAP_PATH_MAX) : ERR_PTR(-ENOMEM);
	path_put(&p);
	copy = IS_ERR(path) ? path : kstrdup(path, GFP_KERNEL);
	kfree(buf);
	return copy ?: ERR_PTR(-ENOMEM);
}

/* Why writes to this device could pass us by, or NULL. */
static const char *untrackable(struct block_device *bdev)
{
	if (bdev_is_zoned(bdev))
		return "it is a zoned device";
	if (blk_queue_dax(bdev_get_queue(bdev)))
		return "files on it can be written without bios (DAX)";
	if (esnap_disk_bypasses_bios(bdev->bd_disk))
		return "its driver writes pages without bios";
	if (bdev_logical_block_size(bdev) > ELASTIO_SNAP_BLOCK_SIZE)
		return "its logical blocks are larger than 4096 bytes";
	return NULL;
}

int esnap_origin_misses(const struct esnap_tracker *t, struct bio *bio, const char **why)
{
	u64 to = esnap_bio_disk_sector(bio) + bio_sectors(bio);

	if (unlikely(esnap_origin_is_exchanged(t))) {
		*why = "its disk reports another medium";
		return -ENODEV;
	}
	if (unlikely(to > t->start + t->nr_sectors &&
		     esnap_bio_sectors_of(bio, t->dev) > t->nr_sectors)) {
		*why = "the origin has grown";
		return -EFBIG;
	}
	return 0;
}

static int describe_origin(struct esnap_tracker *t, struct block_device *bdev)
{
	const char *why = untrackable(bdev);

	if (why) {
		pr_err("%s cannot be tracked: %s\n", t->bdev_path, why);
		return -EOPNOTSUPP;
	}
	t->dev = bdev->bd_dev;
	t->nr_sectors = esnap_bdev_sectors(bdev);
	if (!t->nr_sectors)
		return -EINVAL;
	t->start = get_start_sect(bdev);
	t->disk = bdev->bd_disk;
	t->diskseq = esnap_diskseq(t->disk);
	esnap_disk_know(t->disk);
	return 0;
}

struct esnap_tracker *esnap_tracker_create(unsigned int minor, const char *path,
					   struct esnap_bdev *origin)
{
	struct esnap_tracker *t;
	dev_t dev;
	int err;

	if (minor >= esnap_max_devices)
		return ERR_PTR(-EINVAL);
	if (esnap_registry_get(minor))
		return ERR_PTR(-EBUSY);
	if (esnap_is_hibernating()) {
		pr_err("%s: the machine is about to hibernate: try again when it is back\n", path);
		return ERR_PTR(-EBUSY);
	}
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t)
		return ERR_PTR(-ENOMEM);
	t->minor = minor;
	err = esnap_lookup_bdev(path, &dev);
	if (err)
		goto err_tracker;
	err = esnap_bdev_open(origin, dev);
	if (err)
		goto err_tracker;
	t->bdev_path = resolved_path(path);
	err = PTR_ERR_OR_ZERO(t->bdev_path);
	if (err)
		goto err_origin;
	err = describe_origin(t, origin->bdev);
	if (err)
		goto err_path;
	return t;

err_path:
	kfree(t->bdev_path);
err_origin:
	esnap_bdev_close(origin);
err_tracker:
	kfree(t);
	return ERR_PTR(err);
}

void esnap_tracker_free(struct esnap_tracker *t)
{
	esnap_changes_free(&t->before);
	esnap_disk_forget(t->disk);
	kfree(t->resolved_path);
	kfree(t->bdev_path);
	kfree(t);
}

/* The directory part of a path, kmalloced. */
static char *parent_of(const char *path)
{
	char *dir = kstrdup(path, GFP_KERNEL);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!dir)
		return NULL;
	if (slash)
		slash[1] = '\0';
	else
		strscpy(dir, ".", strlen(path) + 1);
	return dir;
}

/* What is at the path of the COW file, or else the directory it would be in. */
static int lookup_cow(const char *cow, struct path *path)
{
	char *dir;
	int err;

	err = kern_path(cow, 0, path);
	if (err != -ENOENT)
		return err;
	dir = parent_of(cow);
	if (!dir)
		return -ENOMEM;
	err = kern_path(dir, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, path);
	kfree(dir);
	return err;
}

/* btrfs and others of several devices do not tell which are theirs. */
static bool may_be_on(const struct super_block *sb, const struct block_device *bdev)
{
	if (!sb->s_bdev)
		return sb->s_type->fs_flags & FS_REQUIRES_DEV;
	return sb->s_bdev->bd_dev == bdev->bd_dev;
}

struct super_block *esnap_origin_super(struct esnap_tracker *t, struct block_device *bdev,
				       const char *cow)
{
	struct super_block *sb = NULL;
	struct path path;
	int err;

	/* A mounted filesystem claims its device. */
	if (!READ_ONCE(bdev->bd_holder)) {
		pr_err("%s is not mounted\n", t->bdev_path);
		return ERR_PTR(-EINVAL);
	}
	err = lookup_cow(cow, &path);
	if (err)
		return ERR_PTR(err);
	sb = path.dentry->d_sb;
	err = -EINVAL;
	if (!may_be_on(sb, bdev)) {
		pr_err("COW file %s is not on the filesystem of %s\n", cow, t->bdev_path);
	} else if (sb_rdonly(sb)) {
		pr_err("%s is mounted read-only\n", t->bdev_path);
	} else if (!esnap_cowfile_supported(sb)) {
		pr_err("COW file %s: filesystem %s is not supported (ext2, ext3, ext4 and xfs are)\n",
		       cow, sb->s_type->name);
		err = -EOPNOTSUPP;
	} else if (sb->s_blocksize > ELASTIO_SNAP_BLOCK_SIZE) {
		/* Cutting the file behind its index would rewrite a part of the index. */
		pr_err("%s: filesystem blocks of %lu bytes are not supported (up to 4096 are)\n",
		       t->bdev_path, sb->s_blocksize);
		err = -EOPNOTSUPP;
	} else if (atomic_inc_not_zero(&sb->s_active)) {
		err = 0;
	}
	path_put(&path);
	return err ? ERR_PTR(err) : sb;
}
