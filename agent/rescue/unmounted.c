// SPDX-License-Identifier: Apache-2.0
/*
 * Mounting read-only is not enough: a filesystem that was not unmounted would be recovered,
 * that is, written to, before anybody tracks it. So it is mounted without recovery, and on
 * a device that is read-only, since ext4 would still clean up deleted files. What is read
 * then may be older than the last transaction; a list that is out of date makes a reload
 * fail, not succeed wrongly.
 *
 * The mount is in no namespace and has no place: nobody else sees it, and it goes with its
 * descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <asm/unistd.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/openat2.h>

#include "file.h"
#include "message.h"
#include "unmounted.h"

#define XFS_MAGIC_AT 0
#define XFS_MAGIC "XFSB"
#define EXT_MAGIC_AT (1024 + 56)
#define EXT_MAGIC "\x53\xef"

struct filesystem {
	const char *name;
	const char *without_recovery;
};

// The driver of ext4 mounts ext2 and ext3 as well.
static const struct filesystem ext = { "ext4", "noload" };
static const struct filesystem xfs = { "xfs", "norecovery" };

bool read_only_begin(const char *path, struct read_only *ro)
{
	int yes = 1, is_read_only = 0;
	int claim = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);

	*ro = (struct read_only){ .path = path, .device = open(path, O_RDONLY | O_CLOEXEC) };
	if (claim < 0 || ro->device < 0) {
		complain("%s is in use or cannot be opened (%s): it can be looked into before it is mounted only",
			 path, strerror(errno));
		goto err;
	}
	if (ioctl(ro->device, BLKROGET, &is_read_only) ||
	    (!is_read_only && ioctl(ro->device, BLKROSET, &yes))) {
		complain("%s cannot be made read-only (%s): what is tracked of it is not reloaded, the next backup is a full",
			 path, strerror(errno));
		goto err;
	}
	ro->was_writable = !is_read_only;
	close(claim);
	return true;

err:
	if (claim >= 0)
		close(claim);
	if (ro->device >= 0)
		close(ro->device);
	return false;
}

bool read_only_end(struct read_only *ro)
{
	int no = 0;
	bool done = !ro->was_writable || !ioctl(ro->device, BLKROSET, &no);

	if (!done)
		complain("%s stays read-only (%s): run `blockdev --setrw %s`", ro->path,
			 strerror(errno), ro->path);
	close(ro->device);
	return done;
}

static const struct filesystem *filesystem_on(int device)
{
	char magic[4];

	if (pread(device, magic, 4, XFS_MAGIC_AT) == 4 && !memcmp(magic, XFS_MAGIC, 4))
		return &xfs;
	if (pread(device, magic, 2, EXT_MAGIC_AT) == 2 && !memcmp(magic, EXT_MAGIC, 2))
		return &ext;
	return NULL;
}

static int configure(int context, unsigned int command, const char *key, const char *value)
{
	return syscall(__NR_fsconfig, context, command, key, value, 0);
}

// A detached mount; negative and errno when there is none.
static int mount_quietly(const struct filesystem *fs, const char *device)
{
	int context = syscall(__NR_fsopen, fs->name, FSOPEN_CLOEXEC);
	int mount = -1, err;

	if (context < 0)
		return -1;
	if (!configure(context, FSCONFIG_SET_STRING, "source", device) &&
	    !configure(context, FSCONFIG_SET_FLAG, "ro", NULL) &&
	    !configure(context, FSCONFIG_SET_FLAG, fs->without_recovery, NULL) &&
	    !configure(context, FSCONFIG_CMD_CREATE, NULL, NULL))
		mount = syscall(__NR_fsmount, context, FSMOUNT_CLOEXEC,
				MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					MOUNT_ATTR_NOEXEC);
	err = errno;
	close(context);
	errno = err;
	return mount;
}

// A symbolic link leads to where it would when this is the root.
static char *read_below(int mount, const char *path)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	int fd = syscall(__NR_openat2, mount, path, &how, sizeof(how));
	char *text;

	if (fd < 0)
		return NULL;
	text = read_text(fd);
	close(fd);
	return text;
}

char *read_unmounted(const struct read_only *ro, const char *path)
{
	const struct filesystem *fs = filesystem_on(ro->device);
	char *text = NULL;
	int mount, err;

	if (!fs) {
		errno = EMEDIUMTYPE;
		return NULL;
	}
	mount = mount_quietly(fs, ro->path);
	if (mount < 0)
		return NULL;
	text = read_below(mount, path);
	err = errno;
	close(mount);
	errno = err;
	return text;
}
