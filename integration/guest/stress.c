// SPDX-License-Identifier: Apache-2.0
// stress SECONDS SEED MODULE FILESYSTEM:DEVICE...: everything that the driver can be asked to do, at random and from several
// processes, while files are written, filesystems come and go, and the module is loaded and unloaded.
//
// Checked all the time: an image has the same content whenever it is read, and every block in which it differs from the image
// before it is among the changes since that. Prints how often what succeeded as JSON; fails at the first difference, or at an
// error that nobody promises.
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "elastio-snap.h"
#include "guest.h"

enum {
	MAX_DEVICES = 4,
	NR_MINORS = 5,
	NR_COW_NAMES = 6,
	COW_MIB = 8,
	MAX_KNOWN = 4096,
	MAX_EXTENTS = 16384,
	CHUNK = 1 << 20,
};

enum operation {
	SETUP, INC, SNAP, DESTROY, RECONFIGURE, INFO, UNMOUNT, MOUNT, RELOAD, RAW, GARBAGE, UNLOAD, READ, AGAIN, CHANGES,
	NR_OPERATIONS,
};

static const char *const operation_names[NR_OPERATIONS] = {
	"setup", "inc", "snap", "destroy", "reconfigure", "info", "unmount", "mount", "reload", "raw", "garbage", "unload",
	"read", "again", "changes",
};

struct known_image {
	uint8_t uuid[16];
	uint64_t seqid;
	uint64_t sum;
};

struct shared {
	atomic_bool stop;
	atomic_int failures;
	atomic_ulong succeeded[NR_OPERATIONS];
	pthread_mutex_t lock;
	uint32_t nr_known;
	struct known_image known[MAX_KNOWN];
};

static struct shared *shared;
static const char *module_path;
static const char *devices[MAX_DEVICES];
static const char *filesystems[MAX_DEVICES];
static uint32_t nr_devices;
static uint64_t random_state;

static uint32_t below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 32) % limit;
}

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	shared->failures++;
	shared->stop = true;
}

static const char *directory_of(uint32_t device)
{
	static char path[32];

	snprintf(path, sizeof(path), "/s%u", device);
	return path;
}

// --- operations --------------------------------------------------------------------------------------------------------

// What the contract says of calls that race with others; anything else is a defect.
static bool may_happen(int error)
{
	static const int errors[] = {
		EINVAL, EBUSY, ENOENT, EEXIST, EPERM, ENOSPC, EFBIG, ESTALE, EROFS, ENOTBLK, EFAULT, ENXIO, ETXTBSY, EIO,
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i] == error)
			return true;
	return false;
}

static void count(enum operation operation, int result)
{
	if (result == 0)
		shared->succeeded[operation]++;
	else if (!may_happen(errno))
		complain("%s: %s", operation_names[operation], strerrorname_np(errno));
}

static int control(unsigned long command, void *argument)
{
	int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY | O_CLOEXEC);
	int result, error;

	// The module is not loaded just now, or udev has not made the node yet.
	if (fd < 0) {
		errno = ENOENT;
		return -1;
	}
	result = ioctl(fd, command, argument);
	error = errno;
	close(fd);
	errno = error;
	return result;
}

static const char *cow_path(uint32_t device)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/cow%u", directory_of(device), below(NR_COW_NAMES));
	return path;
}

static void setup(uint32_t device)
{
	struct elastio_snap_setup_params params = {
		.bdev = (uintptr_t)devices[device],
		.cow = (uintptr_t)cow_path(device),
		.cow_size_mib = below(8) ? COW_MIB : 2,
		.cache_size = below(2) ? 0 : below(1 << 20),
		.minor = below(NR_MINORS),
	};

	count(SETUP, control(ELASTIO_SNAP_SETUP_SNAP, &params));
}

static void snap(uint32_t device)
{
	struct elastio_snap_transition_params params = {
		.cow = (uintptr_t)cow_path(device),
		.cow_size_mib = COW_MIB,
		.minor = below(NR_MINORS),
	};

	count(SNAP, control(ELASTIO_SNAP_TRANSITION_SNAP, &params));
}

static void on_minor(enum operation operation, unsigned long command)
{
	uint32_t minor = below(NR_MINORS);

	count(operation, control(command, &minor));
}

static void reconfigure(void)
{
	struct elastio_snap_reconfigure_params params = {
		.cache_size = below(1 << 22),
		.minor = below(NR_MINORS),
	};

	count(RECONFIGURE, control(ELASTIO_SNAP_RECONFIGURE, &params));
}

static bool info_of(uint32_t minor, struct elastio_snap_info *info)
{
	memset(info, 0, sizeof(*info));
	info->minor = minor;
	return control(ELASTIO_SNAP_INFO, info) == 0;
}

static void reload(uint32_t device)
{
	struct elastio_snap_reload_params params = {
		.bdev = (uintptr_t)devices[device],
		.cow = (uintptr_t)cow_path(device),
		.minor = below(NR_MINORS),
	};
	unsigned long command = below(2) ? ELASTIO_SNAP_RELOAD_SNAP : ELASTIO_SNAP_RELOAD_INC;

	count(RELOAD, control(command, &params));
}

// Each filesystem has a file of this name.
static bool is_mounted(uint32_t device)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/mounted", directory_of(device));
	return access(path, F_OK) == 0;
}

static void do_mount(uint32_t device)
{
	// Several mounts on top of each other are possible, and few.
	if (!is_mounted(device) || !below(8))
		count(MOUNT, mount(devices[device], directory_of(device), filesystems[device], below(8) ? 0 : MS_RDONLY, NULL));
}

static void do_unmount(uint32_t device)
{
	count(UNMOUNT, umount2(directory_of(device), below(6) ? 0 : MNT_DETACH));
}

// A write past the filesystem that changes no content, of blocks of the device's first MiB: only while it is not mounted.
static void write_raw(uint32_t device)
{
	int fd = open(devices[device], O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	void *block = allocate(BLOCK);
	off_t at = below(256) * BLOCK;

	if (fd >= 0) {
		bool done = pread(fd, block, BLOCK, at) == BLOCK && pwrite(fd, block, BLOCK, at) == BLOCK;

		count(RAW, done ? 0 : -1);
		close(fd);
	}
	free(block);
}

// Any number but those of the operations above, with any argument. The memory is not that of anything else.
static void garbage(void)
{
	static uint64_t argument[2048];
	unsigned long command = below(4) ? 0x40004100u | below(1 << 22) << 8 | below(256) : below(UINT32_MAX);

	for (size_t i = 0; i < sizeof(argument) / 8; i++)
		argument[i] = (uint64_t)below(UINT32_MAX) << 32 | below(UINT32_MAX);
	if (control(command, below(4) ? argument : (void *)(uintptr_t)below(UINT32_MAX)) && may_happen(errno))
		shared->succeeded[GARBAGE]++;
}

static void unload_and_load(void)
{
	int fd;

	if (syscall(SYS_delete_module, "elastio_snap", O_NONBLOCK) == 0)
		shared->succeeded[UNLOAD]++;
	fd = open(module_path, O_RDONLY | O_CLOEXEC);
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST && errno != EBUSY)
		complain("loading the module: %s", strerrorname_np(errno));
	close(fd);
}

static void operate(void)
{
	uint32_t device = below(nr_devices);
	struct elastio_snap_info info;

	switch (below(24)) {
	case 0 ... 3:
		setup(device);
		break;
	case 4 ... 6:
		on_minor(INC, ELASTIO_SNAP_TRANSITION_INC);
		break;
	case 7 ... 9:
		snap(device);
		break;
	case 10:
		on_minor(DESTROY, ELASTIO_SNAP_DESTROY);
		break;
	case 11:
		reconfigure();
		break;
	case 12:
		count(INFO, info_of(below(NR_MINORS), &info) ? 0 : -1);
		break;
	case 13 ... 14:
		do_unmount(device);
		break;
	case 15 ... 18:
		do_mount(device);
		break;
	case 19 ... 20:
		reload(device);
		break;
	case 21:
		write_raw(device);
		break;
	case 22:
		garbage();
		break;
	case 23:
		if (!below(4))
			unload_and_load();
		break;
	}
	usleep(below(60000));
}

// --- writing files -----------------------------------------------------------------------------------------------------

// Opens and closes all that it uses, so that an unmount can come between.
static void write_files(uint32_t device)
{
	static unsigned char data[65536];
	char path[64];
	int fd;

	if (!is_mounted(device)) {
		usleep(50000);
		return;
	}
	snprintf(path, sizeof(path), "%s/f%u", directory_of(device), below(24));
	if (!below(8))
		unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (below(4) ? 0 : O_SYNC), 0600);
	if (fd < 0)
		return;
	// Not onto the root filesystem when nothing is mounted there.
	struct stat facts, root;

	if (!fstat(fd, &facts) && !stat("/", &root) && facts.st_dev != root.st_dev) {
		memset(data, below(256), 1 + below(sizeof(data) - 1));
		if (pwrite(fd, data, 1 + below(sizeof(data) - 1), below(1 << 18)) < 0 && errno == EIO)
			complain("a write to a file failed");
		if (!below(6))
			fsync(fd);
	}
	close(fd);
	usleep(below(20000));
}

// --- looking at images -------------------------------------------------------------------------------------------------

struct image {
	struct elastio_snap_info info;
	uint64_t nr_sectors;
	unsigned char *data;
	uint32_t nr_extents;
	struct extent *extents;
};

static bool same_instant(const struct elastio_snap_info *a, const struct elastio_snap_info *b)
{
	return !memcmp(a->uuid, b->uuid, sizeof(a->uuid)) && a->seqid == b->seqid && a->state == b->state &&
	       a->error == b->error && !strcmp(a->cow, b->cow);
}

static bool map_cow(struct image *image, uint32_t device)
{
	char path[ELASTIO_SNAP_PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof(path), "%s%s", directory_of(device), image->info.cow);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	image->nr_extents = map_extents(fd, path, image->extents, MAX_EXTENTS);
	close(fd);
	return true;
}

// True: it was the image of one instant from begin to end.
static bool read_image(struct image *image, uint32_t device, uint32_t minor)
{
	struct elastio_snap_info after;
	char path[64], resolved[PATH_MAX];
	uint64_t size = image->nr_sectors * SECTOR, done = 0;
	int fd;

	if (!info_of(minor, &image->info) || image->info.state != 3 || image->info.error)
		return false;
	if (!realpath(devices[device], resolved) || strcmp(resolved, image->info.bdev))
		return false;
	snprintf(path, sizeof(path), "/dev/elastio-snap%u", minor);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return false;
	while (done < size) {
		ssize_t n = pread(fd, image->data + done, size - done < CHUNK ? size - done : CHUNK, done);

		if (n <= 0)
			break;
		done += n;
	}
	bool mapped = map_cow(image, device);

	close(fd);
	return done == size && mapped && info_of(minor, &after) && same_instant(&image->info, &after);
}

static uint64_t sum_of(const struct image *image)
{
	const uint64_t *words = (const uint64_t *)image->data;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < image->nr_sectors * SECTOR / 8; i++)
		sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15ULL + (sum >> 29);
	return sum;
}

static void check_content(const struct image *image)
{
	const struct elastio_snap_info *info = &image->info;
	uint64_t sum = sum_of(image);
	struct known_image *known = NULL;

	shared->succeeded[READ]++;
	pthread_mutex_lock(&shared->lock);
	for (uint32_t i = 0; i < shared->nr_known && !known; i++)
		if (!memcmp(shared->known[i].uuid, info->uuid, 16) && shared->known[i].seqid == info->seqid)
			known = &shared->known[i];
	if (!known && shared->nr_known < MAX_KNOWN) {
		known = &shared->known[shared->nr_known++];
		memcpy(known->uuid, info->uuid, 16);
		known->seqid = info->seqid;
		known->sum = sum;
	} else if (known && known->sum == sum) {
		shared->succeeded[AGAIN]++;
	} else if (known) {
		complain("the image of snapshot %llu of minor %u is not what it was", info->seqid, info->minor);
	}
	pthread_mutex_unlock(&shared->lock);
}

static void hide_cow(const struct image *image, unsigned char *hidden)
{
	for (uint32_t i = 0; i < image->nr_extents; i++)
		for (uint64_t s = 0; s < image->extents[i].nr_sectors; s++)
			hidden[image->extents[i].disk_sector + s] = 1;
}

// Every block in which the images differ changed, as the driver says.
static void check_changes(const struct image *old, const struct image *new)
{
	enum { PER_CALL = 512 };
	static struct elastio_snap_changed extents[PER_CALL];
	struct elastio_snap_changes_params params = {
		.seqid = old->info.seqid,
		.extents = (uintptr_t)extents,
		.max_extents = PER_CALL,
		.minor = new->info.minor,
	};
	uint64_t nr_blocks = (old->nr_sectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS;
	unsigned char *changed = allocate(nr_blocks), *hidden = allocate(old->nr_sectors);
	bool known = true;

	memcpy(params.uuid, old->info.uuid, sizeof(params.uuid));
	while (known && !params.complete) {
		known = control(ELASTIO_SNAP_CHANGES, &params) == 0;
		for (uint32_t i = 0; known && i < params.nr_extents; i++)
			memset(changed + extents[i].first, 1, extents[i].nr);
	}
	hide_cow(old, hidden);
	hide_cow(new, hidden);
	for (uint64_t s = 0; known && s < old->nr_sectors; s++)
		if (!hidden[s] && !changed[s / BLOCK_SECTORS] &&
		    memcmp(old->data + s * SECTOR, new->data + s * SECTOR, SECTOR)) {
			complain("sector %" PRIu64 " differs between snapshots %llu and %llu and is not in the changes",
				 s, old->info.seqid, new->info.seqid);
			break;
		}
	if (known)
		shared->succeeded[CHANGES]++;
	free(changed);
	free(hidden);
}

static struct image new_image(uint64_t nr_sectors)
{
	return (struct image){ .nr_sectors = nr_sectors,
			       .data = allocate(nr_sectors * SECTOR),
			       .extents = allocate(MAX_EXTENTS * sizeof(struct extent)) };
}

static void look_at_images(uint32_t device)
{
	static struct image images[2];
	static bool have_old;
	struct image *old = &images[0], *new = &images[1], swap;

	if (!images[0].data) {
		int fd = open_for_reading(devices[device]);
		uint64_t nr_sectors = size_of(fd, devices[device]) / SECTOR;

		close(fd);
		images[0] = new_image(nr_sectors);
		images[1] = new_image(nr_sectors);
	}
	for (uint32_t minor = 0; minor < NR_MINORS; minor++) {
		if (!read_image(new, device, minor))
			continue;
		check_content(new);
		if (have_old && !memcmp(old->info.uuid, new->info.uuid, 16) &&
		    old->info.seqid + 1 == new->info.seqid)
			check_changes(old, new);
		swap = *old;
		*old = *new;
		*new = swap;
		have_old = true;
	}
	usleep(below(100000));
}

// --- processes ---------------------------------------------------------------------------------------------------------

static void start(void (*body)(uint32_t), uint32_t device, uint64_t seed)
{
	if (fork())
		return;
	random_state = seed * 0x9e3779b97f4a7c15ULL + 1;
	while (!shared->stop)
		body(device);
	_exit(0);
}

static void operate_any(uint32_t unused)
{
	(void)unused;
	operate();
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attributes;
	uint64_t seconds, seed;

	if (argc < 5 || argc > 4 + MAX_DEVICES)
		die("usage: stress SECONDS SEED MODULE FILESYSTEM:DEVICE...");
	seconds = number(argv[1]);
	seed = number(argv[2]);
	module_path = argv[3];
	for (int i = 4; i < argc; i++) {
		filesystems[nr_devices] = strsep(&argv[i], ":");
		if (!argv[i])
			die("not FILESYSTEM:DEVICE: %s", filesystems[nr_devices]);
		devices[nr_devices] = argv[i];
		mkdir(directory_of(nr_devices), 0700);
		nr_devices++;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die_errno("mmap");
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->lock, &attributes);

	for (uint32_t i = 0; i < 3; i++)
		start(operate_any, 0, seed * 100 + i);
	for (uint32_t device = 0; device < nr_devices; device++) {
		start(write_files, device, seed * 100 + 10 + device);
		start(look_at_images, device, seed * 100 + 20 + device);
	}
	for (time_t end = time(NULL) + seconds; time(NULL) < end && !shared->stop;)
		usleep(200000);
	shared->stop = true;
	while (wait(NULL) > 0)
		;
	printf("{");
	for (int i = 0; i < NR_OPERATIONS; i++)
		printf("%s\"%s\":%lu", i ? "," : "", operation_names[i], shared->succeeded[i]);
	printf("}\n");
	return shared->failures != 0;
}
