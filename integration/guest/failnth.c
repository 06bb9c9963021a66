// SPDX-License-Identifier: Apache-2.0
// failnth OPERATION DEVICE DIRECTORY MODULE FIRST STEP: does something again and again, and the n-th allocation that it makes
// fails, for n = FIRST, FIRST + STEP and so on until it makes none any more (/proc/self/fail-nth). DEVICE has an ext4 that is
// mounted at DIRECTORY; MODULE is loaded.
//
// OPERATION is setup, destroy, inc, snap, reload-snap, reload-inc, mount, umount, load, write or read. Checked each time: what
// failed has left nothing; a tracker that says that it is sound has an image with the old content, and one that does not says
// why. Prints how many allocations were made to fail and how often the operation failed for it.
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "elastio-snap.h"
#include "guest.h"

enum { MINOR = 0, COW_MIB = 4, DATA_BLOCKS = 512, MAX_FAILURES = 20000 };

static const char *device, *directory, *module_path;
static char cow_paths[2][64], data_path[64];
static uint32_t which_cow;
// The next block of the data file that has not been overwritten since the snapshot.
static uint32_t next_block;
static uint8_t block_data[BLOCK] __attribute__((aligned(BLOCK)));
static uint64_t data_sector;

static int control(unsigned long command, void *argument)
{
	int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY | O_CLOEXEC), result, error;

	if (fd < 0)
		die_errno(ELASTIO_SNAP_CTL_PATH);
	result = ioctl(fd, command, argument);
	error = errno;
	close(fd);
	errno = error;
	return result;
}

static void must(int result, const char *what)
{
	if (result)
		die_errno(what);
}

// --- what is done ----------------------------------------------------------------------------------------------------

static uint32_t minor_number = MINOR;

static int do_setup(int fd)
{
	struct elastio_snap_setup_params params = {
		.bdev = (uintptr_t)device, .cow = (uintptr_t)cow_paths[which_cow], .cow_size_mib = COW_MIB, .minor = MINOR,
	};

	return ioctl(fd, ELASTIO_SNAP_SETUP_SNAP, &params);
}

static int do_destroy(int fd)
{
	return ioctl(fd, ELASTIO_SNAP_DESTROY, &minor_number);
}

static int do_inc(int fd)
{
	return ioctl(fd, ELASTIO_SNAP_TRANSITION_INC, &minor_number);
}

static int do_snap(int fd)
{
	struct elastio_snap_transition_params params = {
		.cow = (uintptr_t)cow_paths[!which_cow], .cow_size_mib = COW_MIB, .minor = MINOR,
	};

	return ioctl(fd, ELASTIO_SNAP_TRANSITION_SNAP, &params);
}

static int reload(int fd, unsigned long command)
{
	struct elastio_snap_reload_params params = {
		.bdev = (uintptr_t)device, .cow = (uintptr_t)(cow_paths[which_cow] + strlen(directory)), .minor = MINOR,
	};

	return ioctl(fd, command, &params);
}

static int do_reload_snap(int fd)
{
	return reload(fd, ELASTIO_SNAP_RELOAD_SNAP);
}

static int do_reload_inc(int fd)
{
	return reload(fd, ELASTIO_SNAP_RELOAD_INC);
}

static int do_mount(int fd)
{
	(void)fd;
	return mount(device, directory, "ext4", 0, "");
}

static int do_umount(int fd)
{
	(void)fd;
	return umount2(directory, 0);
}

static int module_fd;

static int do_load(int fd)
{
	(void)fd;
	return syscall(SYS_finit_module, module_fd, "", 0);
}

static int data_fd;

static int do_write(int fd)
{
	(void)fd;
	memset(block_data, 0xBB, BLOCK);
	return pwrite(data_fd, block_data, BLOCK, (off_t)next_block * BLOCK) == BLOCK ? 0 : -1;
}

static int image_fd;

static int do_read(int fd)
{
	(void)fd;
	return pread(image_fd, block_data, BLOCK, (off_t)data_sector * SECTOR) == BLOCK ? 0 : -1;
}

// --- what must be so -------------------------------------------------------------------------------------------------

static bool tracker(struct elastio_snap_info *info)
{
	*info = (struct elastio_snap_info){ .minor = MINOR };
	if (control(ELASTIO_SNAP_INFO, info) == 0)
		return true;
	if (errno != ENOENT)
		die_errno("info");
	return false;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

// The image of the block, which the file's block had before any write: all 0xAA.
static void check_image(uint32_t block)
{
	static uint8_t found[BLOCK] __attribute__((aligned(BLOCK)));
	int fd = open("/dev/elastio-snap0", O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		die_errno("/dev/elastio-snap0");
	read_all(fd, "the image", found, BLOCK, data_sector * SECTOR + (uint64_t)block * BLOCK);
	close(fd);
	for (int i = 0; i < BLOCK; i++)
		if (found[i] != 0xAA)
			die("the image of block %u has changed", block);
}

static void destroy_if_there(void)
{
	struct elastio_snap_info info;

	if (tracker(&info))
		must(control(ELASTIO_SNAP_DESTROY, &minor_number), "destroy");
}

static bool is_mounted(void)
{
	struct stat there, root;

	if (stat(directory, &there) || stat("/", &root))
		die_errno(directory);
	return there.st_dev != root.st_dev;
}

static void mount_again(void)
{
	if (!is_mounted())
		must(do_mount(-1), "mount");
}

static int with_control(int (*operation)(int fd))
{
	int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY | O_CLOEXEC), result, error;

	if (fd < 0)
		die_errno(ELASTIO_SNAP_CTL_PATH);
	result = operation(fd);
	error = errno;
	close(fd);
	errno = error;
	return result;
}

// A file of 0xAA, its blocks in one piece, and no tracker.
static void make_data(void)
{
	static uint8_t chunk[64 * BLOCK] __attribute__((aligned(BLOCK)));
	struct extent extents[64];

	mount_again();
	destroy_if_there();
	unlink(cow_paths[0]);
	unlink(cow_paths[1]);
	if (data_fd > 0)
		close(data_fd);
	data_fd = open(data_path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	if (data_fd < 0 || posix_fallocate(data_fd, 0, DATA_BLOCKS * BLOCK))
		die_errno(data_path);
	memset(chunk, 0xAA, sizeof(chunk));
	for (uint32_t at = 0; at < DATA_BLOCKS; at += 64)
		if (pwrite(data_fd, chunk, sizeof(chunk), (off_t)at * BLOCK) != sizeof(chunk))
			die_errno(data_path);
	if (fsync(data_fd) || map_extents(data_fd, data_path, extents, 64) != 1)
		die("%s is in more than one piece", data_path);
	data_sector = extents[0].disk_sector;
	next_block = 0;
}

static void close_data(void)
{
	if (data_fd > 0)
		close(data_fd);
	data_fd = 0;
}

static void ready_to_setup(void)
{
	destroy_if_there();
}

static void ready_in_snapshot_mode(void)
{
	struct elastio_snap_info info;

	if (tracker(&info) && !info.error && info.state == 3 && next_block < DATA_BLOCKS)
		return;
	make_data();
	must(with_control(do_setup), "setup");
}

static void ready_in_incremental_mode(void)
{
	struct elastio_snap_info info;

	if (tracker(&info) && !info.error && info.state == 2)
		return;
	ready_in_snapshot_mode();
	must(with_control(do_inc), "inc");
}

// A COW file that was closed, and no tracker.
static void ready_to_reload(void)
{
	struct elastio_snap_info info;

	if (!is_mounted() && !tracker(&info))
		return;
	make_data();
	must(with_control(do_setup), "setup");
	do_write(-1);
	close_data();
	must(do_umount(-1), "umount");
	must(control(ELASTIO_SNAP_DESTROY, &minor_number), "destroy");
}

static void ready_to_mount(void)
{
	struct elastio_snap_info info;

	if (!is_mounted() && tracker(&info) && !info.error)
		return;
	make_data();
	must(with_control(do_setup), "setup");
	do_write(-1);
	close_data();
	must(do_umount(-1), "umount");
}

static void ready_to_umount(void)
{
	ready_in_snapshot_mode();
	close_data();
}

static void ready_to_load(void)
{
	destroy_if_there();
	if (syscall(SYS_delete_module, "elastio_snap", O_NONBLOCK))
		die_errno("unloading");
	module_fd = open(module_path, O_RDONLY | O_CLOEXEC);
	if (module_fd < 0)
		die_errno(module_path);
}

static void ready_to_read(void)
{
	ready_in_snapshot_mode();
	if (!next_block) {
		do_write(-1);
		next_block++;
	}
	image_fd = open("/dev/elastio-snap0", O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (image_fd < 0)
		die_errno("/dev/elastio-snap0");
}

static void check_setup(bool failed)
{
	struct elastio_snap_info info;

	if (!failed)
		return;
	if (tracker(&info))
		die("a set-up that failed has left a tracker");
	if (exists(cow_paths[which_cow]))
		die("a set-up that failed has left its COW file, which %s",
		    unlink(cow_paths[which_cow]) ? "nobody can delete" : "others can delete");
	if (exists("/sys/block/elastio-snap0"))
		die("a set-up that failed has left its image");
}

static void check_destroy(bool failed)
{
	struct elastio_snap_info info;

	if (failed || tracker(&info))
		die("destroy failed");
}

static void check_transition(bool failed)
{
	struct elastio_snap_info info;

	if (!tracker(&info))
		die("the tracker has gone");
	if (failed && !info.error && info.state == 2 && exists(cow_paths[!which_cow]))
		die("a transition that failed has left its COW file");
	if (!failed && info.state == 3) {
		which_cow = !which_cow;
		unlink(cow_paths[!which_cow]);
		next_block = DATA_BLOCKS;
	}
}

static void check_reload(bool failed)
{
	struct elastio_snap_info info;

	if (failed && tracker(&info))
		die("a reload that failed has left a tracker");
	destroy_if_there();
}

static void check_mount(bool failed)
{
	struct elastio_snap_info info;

	if (!tracker(&info))
		die("the tracker has gone");
	if (failed) {
		if (info.state & ELASTIO_SNAP_STATE_ACTIVE)
			die("the tracker is active without a filesystem");
		return;
	}
	if (info.error)
		return;
	if (!(info.state & ELASTIO_SNAP_STATE_ACTIVE))
		die("the filesystem is mounted, and its tracker neither active nor failed");
	check_image(0);
	must(do_umount(-1), "umount");
}

static void check_umount(bool failed)
{
	struct elastio_snap_info info;

	if (!tracker(&info) || failed != is_mounted())
		die("umount has ended half-way, or the tracker has gone");
	if (!failed && !info.error && (info.state & ELASTIO_SNAP_STATE_ACTIVE))
		die("a tracker is active without a filesystem");
	mount_again();
	if (tracker(&info) && !info.error)
		check_image(0);
}

static void check_load(bool failed)
{
	close(module_fd);
	if (failed && exists(ELASTIO_SNAP_CTL_PATH))
		die("a module that failed to load has left its control device");
	if (failed && (exists("/proc/elastio-snap-info") || exists("/sys/module/elastio_snap")))
		die("a module that failed to load has left something");
	if (!failed)
		return;
	module_fd = open(module_path, O_RDONLY | O_CLOEXEC);
	must(do_load(-1), "loading");
	close(module_fd);
}

static void check_write(bool failed)
{
	static uint8_t found[BLOCK] __attribute__((aligned(BLOCK)));
	struct elastio_snap_info info;

	if (!tracker(&info))
		die("the tracker has gone");
	if (!failed) {
		read_all(data_fd, data_path, found, BLOCK, (uint64_t)next_block * BLOCK);
		if (memcmp(found, block_data, BLOCK))
			die("block %u is not what was written", next_block);
	}
	if (!info.error)
		check_image(next_block);
	next_block++;
}

static void check_read(bool failed)
{
	close(image_fd);
	for (int i = 0; i < BLOCK && !failed; i++)
		if (block_data[i] != 0xAA)
			die("the image has changed");
}

static const struct operation {
	const char *name;
	void (*ready)(void);
	int (*act)(int fd);
	void (*check)(bool failed);
} operations[] = {
	{ "setup", ready_to_setup, do_setup, check_setup },
	{ "destroy", ready_in_snapshot_mode, do_destroy, check_destroy },
	{ "inc", ready_in_snapshot_mode, do_inc, check_transition },
	{ "snap", ready_in_incremental_mode, do_snap, check_transition },
	{ "reload-snap", ready_to_reload, do_reload_snap, check_reload },
	{ "reload-inc", ready_to_reload, do_reload_inc, check_reload },
	{ "mount", ready_to_mount, do_mount, check_mount },
	{ "umount", ready_to_umount, do_umount, check_umount },
	{ "load", ready_to_load, do_load, check_load },
	{ "write", ready_in_snapshot_mode, do_write, check_write },
	{ "read", ready_to_read, do_read, check_read },
};

// --- the n-th allocation ---------------------------------------------------------------------------------------------

static unsigned long left_to_fail(int fail_nth)
{
	char text[32] = "";

	if (pread(fail_nth, text, sizeof(text) - 1, 0) < 0 || pwrite(fail_nth, "0", 1, 0) != 1)
		die_errno("/proc/self/fail-nth");
	return strtoul(text, NULL, 10);
}

static const struct operation *find(const char *name)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		if (!strcmp(operations[i].name, name))
			return &operations[i];
	die("no operation \"%s\"", name);
}

int main(int argc, char **argv)
{
	unsigned int nr_made_to_fail = 0, nr_failed = 0, n;

	if (argc != 7)
		die("usage: failnth OPERATION DEVICE DIRECTORY MODULE FIRST STEP");
	const struct operation *operation = find(argv[1]);
	int fail_nth = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);

	if (fail_nth < 0)
		die_errno("/proc/self/fail-nth");
	device = argv[2];
	directory = argv[3];
	module_path = argv[4];
	unsigned int first = strtoul(argv[5], NULL, 10), step = strtoul(argv[6], NULL, 10);

	if (!first || !step)
		die("FIRST and STEP are at least 1");
	snprintf(cow_paths[0], sizeof(cow_paths[0]), "%s/cow0", directory);
	snprintf(cow_paths[1], sizeof(cow_paths[1]), "%s/cow1", directory);
	snprintf(data_path, sizeof(data_path), "%s/data", directory);
	make_data();

	for (n = first; n < MAX_FAILURES; n += step) {
		operation->ready();

		int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY | O_CLOEXEC);
		char text[16];
		int length = snprintf(text, sizeof(text), "%u", n);

		if (pwrite(fail_nth, text, length, 0) != length)
			die_errno("/proc/self/fail-nth");
		int result = operation->act(fd), error = errno;
		unsigned long left = left_to_fail(fail_nth);

		close(fd);
		if (result && left)
			die("%s fails without reason: %s", operation->name, strerrorname_np(error));
		nr_failed += result != 0;
		if (result)
			fprintf(stderr, "%u: %s\n", n, strerrorname_np(error));
		operation->check(result != 0);
		if (left)
			break;
		nr_made_to_fail++;
	}
	close_data();
	mount_again();
	destroy_if_there();
	unlink(cow_paths[0]);
	unlink(cow_paths[1]);
	printf("{\"made_to_fail\": %u, \"failed\": %u, \"end\": %u}\n", nr_made_to_fail, nr_failed, n);
	return n >= MAX_FAILURES;
}
