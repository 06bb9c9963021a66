// SPDX-License-Identifier: Apache-2.0
// fuzz COUNT SEED DEVICE DIRECTORY OTHER: COUNT calls of the control device and reads of what the driver shows, with structured
// random input, by two processes at once. DEVICE is the origin and mounted at DIRECTORY, OTHER a device that is not mounted.
// Fails at an error that nobody promises and at a file that was not made by a call. Prints how often what happened as JSON.
#include <poll.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "elastio-snap.h"
#include "guest.h"
#include "random.h"

enum { NR_PROCESSES = 2, PAGE = 4096, COW_MIB = 2 };

static atomic_ulong *counts; // succeeded, refused, reads
static const char *device, *directory, *other;
// Calls that may do something take a thousand times as long as those that are refused at once: few are of that kind.
static bool effective;
// A page before one that nobody may touch, and one that cannot be written.
static char *edge, *read_only;

static uint64_t odd_number(void)
{
	static const uint64_t edges[] = { 0, 1, 2, 7, 63, 64, 255, 256, 4095, 4096, INT32_MAX, 1ULL << 31, UINT32_MAX,
					  1ULL << 32, 1ULL << 43, 1ULL << 44, 1ULL << 52, INT64_MAX, 1ULL << 63, UINT64_MAX };

	return below(4) ? edges[below(sizeof(edges) / sizeof(edges[0]))] : random64();
}

static void *odd_pointer(void)
{
	void *const pointers[] = { NULL, (void *)1, edge + PAGE, edge + PAGE - 1 - below(64), read_only, (void *)-4096,
				   (void *)0x7fffffffffff, (void *)0xffff888000000000, (void *)random64() };

	return pointers[below(sizeof(pointers) / sizeof(pointers[0]))];
}

static uint64_t path(void)
{
	static char text[16][PAGE + 2];
	static unsigned int next;
	char *to = text[next++ % 16];

	switch (below(16)) {
	case 0:
		return (uintptr_t)odd_pointer();
	case 1: // As long as may be, and one more.
		memset(to, '/', PAGE + 1);
		to[PAGE - 1 + below(2)] = 0;
		break;
	case 2:
		for (int i = 0; i < 64; i++)
			to[i] = below(256);
		to[below(64)] = 0;
		break;
	case 3:
		snprintf(to, PAGE, "%s", below(2) ? "" : ".");
		break;
	case 4: {
		static const char *const others[] = {
			"/dev/null", "/dev/elastio-snap0", ELASTIO_SNAP_CTL_PATH, "/proc/self/mem", "/", "/proc/self/fd/0",
			"/tmp/none", "/proc/elastio-snap-info",
		};

		snprintf(to, PAGE, "%s", others[below(sizeof(others) / sizeof(others[0]))]);
		break;
	}
	case 5:
		snprintf(to, PAGE, "%s", other);
		break;
	case 6:
	case 7:
	case 8:
	case 9:
		snprintf(to, PAGE, "%s", device);
		break;
	default:
		snprintf(to, PAGE, "%s/cow%" PRIu64, directory, below(4));
	}
	return (uintptr_t)to;
}

static uint64_t device_path(void)
{
	uint64_t odd = path();

	if (effective)
		return below(4) ? (uintptr_t)device : odd;
	return below(2) ? (uintptr_t)other : (uintptr_t)directory;
}

static uint32_t minor_number(void)
{
	return below(8) ? below(3) : odd_number();
}

// Of a call that changes the tracker's state.
static uint32_t changed_minor(void)
{
	return effective ? minor_number() : 256 + below(1 << 31);
}

static uint64_t size_in_mib(void)
{
	return below(4) ? COW_MIB : odd_number();
}

static unsigned long invent(void *argument)
{
	effective = below(32) == 0;
	switch (below(12)) {
	case 0:
		*(struct elastio_snap_setup_params *)argument = (struct elastio_snap_setup_params){
			.bdev = device_path(), .cow = path(), .cow_size_mib = size_in_mib(), .cache_size = odd_number(),
			.minor = minor_number(), .ignore_errors = below(256),
		};
		return ELASTIO_SNAP_SETUP_SNAP;
	case 1:
	case 2:
		*(struct elastio_snap_reload_params *)argument = (struct elastio_snap_reload_params){
			.bdev = device_path(), .cow = path(), .cache_size = odd_number(), .minor = minor_number(),
		};
		return below(2) ? ELASTIO_SNAP_RELOAD_SNAP : ELASTIO_SNAP_RELOAD_INC;
	case 3:
		*(struct elastio_snap_transition_params *)argument = (struct elastio_snap_transition_params){
			.cow = path(), .cow_size_mib = size_in_mib(), .minor = changed_minor(),
		};
		return ELASTIO_SNAP_TRANSITION_SNAP;
	case 4:
		*(struct elastio_snap_reconfigure_params *)argument =
			(struct elastio_snap_reconfigure_params){ .cache_size = odd_number(), .minor = minor_number() };
		return ELASTIO_SNAP_RECONFIGURE;
	case 5:
	case 6: {
		struct elastio_snap_changes_params *params = argument;
		struct elastio_snap_info info = { .minor = below(3) };
		int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY | O_CLOEXEC);

		memset(params, 0, sizeof(*params));
		if (ioctl(fd, ELASTIO_SNAP_INFO, &info) == 0 && below(8)) {
			memcpy(params->uuid, info.uuid, sizeof(params->uuid));
			params->seqid = info.seqid - below(3);
		}
		close(fd);
		params->minor = below(4) ? info.minor : minor_number();
		params->block = below(2) ? 0 : odd_number();
		params->max_extents = below(2) ? 1 + below(256) : odd_number();
		params->extents = below(2) ? (uintptr_t)edge : (uintptr_t)odd_pointer();
		return ELASTIO_SNAP_CHANGES;
	}
	case 7:
		*(uint32_t *)argument = changed_minor();
		return below(4) ? ELASTIO_SNAP_TRANSITION_INC : ELASTIO_SNAP_DESTROY;
	case 8:
		((struct elastio_snap_info *)argument)->minor = minor_number();
		return below(2) ? ELASTIO_SNAP_INFO : ELASTIO_SNAP_INFO_OLD;
	case 9:
		return below(2) ? ELASTIO_SNAP_GET_FREE : ELASTIO_SNAP_VERSION;
	default:
		for (int i = 0; i < 64; i++)
			((uint64_t *)argument)[i] = random64();
		return below(2) ? _IOC(below(4), ELASTIO_SNAP_MAGIC, below(70), below(9000)) : random64();
	}
}

// What the contract says of calls; anything else is a defect.
static bool is_promised(int error)
{
	static const int errors[] = { EINVAL, EBUSY, ENOENT, EEXIST, EPERM,   ENOSPC, EFBIG,   ESTALE, EROFS,  ENOTBLK,
				      EFAULT, ENXIO, EIO,    ENODEV, ENOTDIR, EISDIR, ETXTBSY, ELOOP,  ENAMETOOLONG, EACCES,
				      EOPNOTSUPP, ENOMEM };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i] == error)
			return true;
	return false;
}

static void call(int fd)
{
	static uint64_t argument[PAGE];
	unsigned long command = invent(argument);
	void *at = argument;

	// A structure of which the end, or all, is not the caller's.
	if (below(8) == 0) {
		at = odd_pointer();
		if ((char *)at >= edge && (char *)at < edge + PAGE)
			memcpy(at, argument, edge + PAGE - (char *)at);
	}
	if (below(16) == 0)
		command ^= 1UL << below(32);
	if (ioctl(fd, command, at) == 0)
		counts[0]++;
	else if (is_promised(errno))
		counts[1]++;
	else
		die("command %#lx: %s", command, strerrorname_np(errno));
}

static void look(int fd)
{
	static char buffer[16 * PAGE];
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN | POLLOUT };
	int proc = open("/proc/elastio-snap-info", O_RDONLY | O_CLOEXEC);
	int image = open("/dev/elastio-snap0", O_RDONLY | O_CLOEXEC);

	if (proc < 0)
		die_errno("/proc/elastio-snap-info");
	if (read(fd, buffer, below(sizeof(buffer))) > 0 || write(fd, buffer, below(sizeof(buffer))) > 0)
		die("the control device was read or written");
	if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED)
		die("the control device was mapped");
	poll(&poll_fd, 1, 0);
	lseek(proc, below(2) ? (off_t)below(8192) : (off_t)odd_number(), SEEK_SET);
	read(proc, below(4) ? buffer : odd_pointer(), below(sizeof(buffer)));
	if (image >= 0) {
		lseek(image, below(2) ? (off_t)below(1 << 26) : (off_t)odd_number(), SEEK_SET);
		read(image, below(4) ? buffer : odd_pointer(), below(sizeof(buffer)));
		if (write(image, buffer, 1) > 0)
			die("the image was written");
		ioctl(image, below(2) ? BLKGETSIZE64 : BLKFLSBUF, buffer);
		close(image);
	}
	close(proc);
	counts[2]++;
}

static void run(unsigned long count)
{
	int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die_errno(ELASTIO_SNAP_CTL_PATH);
	for (unsigned long i = 0; i < count; i++) {
		if (below(32))
			call(fd);
		else
			look(fd);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc != 6)
		die("usage: fuzz COUNT SEED DEVICE DIRECTORY OTHER");
	device = argv[3];
	directory = argv[4];
	other = argv[5];
	counts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED || edge == MAP_FAILED || read_only == MAP_FAILED || mprotect(edge + PAGE, PAGE, PROT_NONE))
		die_errno("mmap");
	for (int n = 0; n < NR_PROCESSES; n++) {
		pid_t pid = fork();

		if (pid < 0)
			die_errno("fork");
		if (pid)
			continue;
		seed_random(number(argv[2]) * NR_PROCESSES + n);
		run(number(argv[1]) / NR_PROCESSES);
		exit(0);
	}
	for (int status; wait(&status) > 0;)
		failed |= status;
	printf("{\"succeeded\": %lu, \"refused\": %lu, \"looks\": %lu}\n", counts[0], counts[1], counts[2]);
	return failed != 0;
}
