// SPDX-License-Identifier: Apache-2.0
// contract SECTION ORIGIN MOUNT UNMOUNTED READONLY OTHER: calls the control node as the binaries of elastio-snap 0.12.2 do,
// with numbers and byte offsets written out here, and prints "ok NAME" or "not ok NAME: why" for each expectation, then
// "done". ORIGIN is mounted read-write at MOUNT, UNMOUNTED not at all, READONLY read-only; OTHER is a directory of another
// filesystem. No tracker may exist, and none is left behind.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETUP 0x40284101U
#define RELOAD_SNAP 0x40204102U
#define RELOAD_INC 0x40204103U
#define DESTROY 0x40044104U
#define TRANSITION_INC 0x40044105U
#define TRANSITION_SNAP 0x40184106U
#define RECONFIGURE 0x40104107U
#define INFO 0xA0584108U
#define INFO_OLD 0xA0504108U
#define GET_FREE 0x80044109U
#define VERSION 0x80304140U
#define CHANGES 0xC0384141U

#define SETUP_SIZE 40
#define RELOAD_SIZE 32
#define TRANSITION_SIZE 24
#define RECONFIGURE_SIZE 16
#define INFO_SIZE 8280
#define INFO_OLD_SIZE 8272
#define CANARY_SIZE 64

#define GARBAGE 0xC7
#define MAX_DEVICES 24
#define DEFAULT_CACHE 314572800ULL

static const char *origin, *mount_point, *unmounted, *read_only, *other;
static int control_fd;

static void expect(bool good, const char *name, const char *format, ...)
{
	va_list args;

	if (good) {
		printf("ok %s\n", name);
	} else {
		printf("not ok %s: ", name);
		va_start(args, format);
		vprintf(format, args);
		va_end(args);
		putchar('\n');
	}
	fflush(stdout);
}

static const char *errno_name(int error)
{
	return error ? strerrorname_np(error) : "success";
}

static int call(unsigned int command, const void *argument)
{
	return ioctl(control_fd, command, argument) == 0 ? 0 : errno;
}

static void expect_error(const char *name, int wanted, int got)
{
	expect(got == wanted, name, "%s instead of %s", errno_name(got), errno_name(wanted));
}

static void expect_call(const char *name, int wanted, unsigned int command, const void *argument)
{
	expect_error(name, wanted, call(command, argument));
}

static void expect_number(const char *name, uint64_t wanted, uint64_t got)
{
	expect(got == wanted, name, "%llu instead of %llu", (unsigned long long)got, (unsigned long long)wanted);
}

static void put32(uint8_t *buffer, size_t offset, uint32_t value)
{
	memcpy(buffer + offset, &value, sizeof(value));
}

static void put64(uint8_t *buffer, size_t offset, uint64_t value)
{
	memcpy(buffer + offset, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *buffer, size_t offset)
{
	uint32_t value;

	memcpy(&value, buffer + offset, sizeof(value));
	return value;
}

static uint64_t get64(const uint8_t *buffer, size_t offset)
{
	uint64_t value;

	memcpy(&value, buffer + offset, sizeof(value));
	return value;
}

/* The static buffers of these live until the next call: enough for one expectation. */
static const char *at_mount(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", mount_point, name);
	return path;
}

static const uint8_t *setup_argument(const void *bdev, const void *cow, uint64_t mib, uint32_t minor)
{
	static uint8_t argument[SETUP_SIZE];

	memset(argument, GARBAGE, sizeof(argument));
	put64(argument, 0, (uintptr_t)bdev);
	put64(argument, 8, (uintptr_t)cow);
	put64(argument, 16, mib);
	put64(argument, 24, 0);
	put32(argument, 32, minor);
	argument[36] = 0;
	return argument;
}

static const uint8_t *reload_argument(const void *bdev, const void *cow, uint32_t minor)
{
	static uint8_t argument[RELOAD_SIZE];

	memset(argument, GARBAGE, sizeof(argument));
	put64(argument, 0, (uintptr_t)bdev);
	put64(argument, 8, (uintptr_t)cow);
	put64(argument, 16, 0);
	put32(argument, 24, minor);
	argument[28] = 0;
	return argument;
}

static const uint8_t *transition_argument(const void *cow, uint64_t mib, uint32_t minor)
{
	static uint8_t argument[TRANSITION_SIZE];

	memset(argument, GARBAGE, sizeof(argument));
	put64(argument, 0, (uintptr_t)cow);
	put64(argument, 8, mib);
	put32(argument, 16, minor);
	return argument;
}

static const uint8_t *reconfigure_argument(uint64_t cache, uint32_t minor)
{
	static uint8_t argument[RECONFIGURE_SIZE];

	memset(argument, GARBAGE, sizeof(argument));
	put64(argument, 0, cache);
	put32(argument, 8, minor);
	return argument;
}

static const uint8_t *minor_argument(uint32_t minor)
{
	static uint8_t argument[4];

	put32(argument, 0, minor);
	return argument;
}

/* Fills a buffer with one byte, calls INFO and returns the buffer, whose last bytes are the canary. */
static const uint8_t *info_of(uint32_t minor, unsigned int command, uint8_t fill, int *error)
{
	static uint8_t buffers[2][INFO_SIZE + CANARY_SIZE];
	static int turn;
	uint8_t *buffer = buffers[turn++ % 2];

	memset(buffer, fill, sizeof(buffers[0]));
	put32(buffer, 0, minor);
	*error = call(command, buffer);
	return buffer;
}

static const uint8_t *info(uint32_t minor)
{
	int error;
	const uint8_t *buffer = info_of(minor, INFO, 0x5A, &error);

	if (error)
		expect_error("info", 0, error);
	return buffer;
}

static bool exists(const char *path)
{
	struct stat facts;

	return lstat(path, &facts) == 0;
}

static void settle(void)
{
	if (system("udevadm settle") != 0)
		expect(false, "udevadm settle", "it failed");
}

static void start(const char *name, uint32_t minor)
{
	expect_call("a set-up for this section", 0, SETUP, setup_argument(origin, at_mount(name), 4, minor));
	settle();
}

static void finish(uint32_t minor)
{
	settle();
	expect_call("destroying the tracker of this section", 0, DESTROY, minor_argument(minor));
}

static void write_file(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content))
		expect(false, "preparing a file", "%s: %s", path, errno_name(errno));
	close(fd);
}

static bool file_holds(const char *path, const char *content)
{
	char buffer[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = read(fd, buffer, sizeof(buffer) - 1);

	close(fd);
	return got == (ssize_t)strlen(content) && !strcmp(buffer, content);
}

/* A number with another size, direction or magic is another command. */
static void section_numbers(void)
{
	static const unsigned int unknown[] = {
		0x00004100, 0x0000410A, 0x4010410A, 0x4018410B, 0x00004101, 0x40204101, 0x40304101, 0x80284101,
		0x40284102, 0x40204101, 0x40084104, 0x80044104, 0x40084105, 0x40284106, 0x40184107, 0xA0604108,
		0xA0484108, 0x40044109, 0x80084109, 0x40289101, 0xFFFFFFFF,
	};
	uint8_t argument[16384];
	uint32_t minor;
	char name[64];

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		memset(argument, GARBAGE, sizeof(argument));
		snprintf(name, sizeof(name), "unknown command 0x%08X", unknown[i]);
		expect_call(name, EINVAL, unknown[i], argument);
	}

	memset(argument, GARBAGE, sizeof(argument));
	expect_call("get free", 0, GET_FREE, argument);
	expect_number("the lowest free minor", 0, get32(argument, 0));
	expect(argument[4] == GARBAGE, "get free writes four bytes", "a fifth changed");
	start("cow-numbers", 0);
	expect_call("get free with minor 0 in use", 0, GET_FREE, &minor);
	expect_number("the second lowest minor", 1, minor);
	finish(0);
}

static void section_minors(void)
{
	static const uint32_t out_of_range[] = { MAX_DEVICES, MAX_DEVICES + 1, 256, UINT32_MAX };
	const char *cow = "/nowhere/cow";
	int error;

	for (size_t i = 0; i < sizeof(out_of_range) / sizeof(out_of_range[0]); i++) {
		uint32_t minor = out_of_range[i];

		expect_call("setup, out of range", EINVAL, SETUP, setup_argument("/missing", cow, 4, minor));
		expect_call("reload-snap, out of range", EINVAL, RELOAD_SNAP, reload_argument("/missing", cow, minor));
		expect_call("reload-inc, out of range", EINVAL, RELOAD_INC, reload_argument("/missing", cow, minor));
		expect_call("destroy, out of range", EINVAL, DESTROY, minor_argument(minor));
		expect_call("to incremental, out of range", EINVAL, TRANSITION_INC, minor_argument(minor));
		expect_call("to snapshot, out of range", EINVAL, TRANSITION_SNAP, transition_argument(cow, 4, minor));
		expect_call("reconfigure, out of range", EINVAL, RECONFIGURE, reconfigure_argument(0, minor));
		info_of(minor, INFO, 0, &error);
		expect_error("info, out of range", EINVAL, error);
		info_of(minor, INFO_OLD, 0, &error);
		expect_error("old info, out of range", EINVAL, error);
	}

	expect_call("destroy, empty minor", ENOENT, DESTROY, minor_argument(MAX_DEVICES - 1));
	expect_call("to incremental, empty minor", ENOENT, TRANSITION_INC, minor_argument(7));
	expect_call("to snapshot, empty minor", ENOENT, TRANSITION_SNAP, transition_argument(cow, 4, 7));
	expect_call("reconfigure, empty minor", ENOENT, RECONFIGURE, reconfigure_argument(0, 7));
	info_of(7, INFO, 0, &error);
	expect_error("info, empty minor", ENOENT, error);
	info_of(7, INFO_OLD, 0, &error);
	expect_error("old info, empty minor", ENOENT, error);

	start("cow-minors", 3);
	expect_call("setup, minor in use", EBUSY, SETUP, setup_argument(origin, at_mount("second"), 4, 3));
	expect_call("setup, minor in use, missing device", EBUSY, SETUP,
		    setup_argument("/missing", at_mount("second"), 4, 3));
	expect_call("setup, device tracked already", EINVAL, SETUP, setup_argument(origin, at_mount("second"), 4, 4));
	expect(!exists(at_mount("second")), "a refused set-up creates no file", "it is there");
	finish(3);
	start("cow-last", MAX_DEVICES - 1);
	finish(MAX_DEVICES - 1);
}

static void section_pointers(void)
{
	static const unsigned int commands[] = {
		SETUP, RELOAD_SNAP, RELOAD_INC, DESTROY, TRANSITION_INC, TRANSITION_SNAP, RECONFIGURE, INFO, INFO_OLD, GET_FREE,
	};
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const void *wild = (void *)1;
	const char *good = "/missing";
	char name[64], *path = malloc(4098);
	uint8_t *edge = pages + 3 * page;

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		snprintf(name, sizeof(name), "no structure for 0x%08X", commands[i]);
		expect_call(name, EFAULT, commands[i], NULL);
		snprintf(name, sizeof(name), "a wild structure for 0x%08X", commands[i]);
		expect_call(name, EFAULT, commands[i], wild);
	}
	mprotect(edge, page, PROT_NONE);
	expect_call("a structure cut off by one byte", EFAULT, SETUP, edge - SETUP_SIZE + 1);

	expect_call("setup, no device path", EINVAL, SETUP, setup_argument(NULL, wild, 4, 0));
	expect_call("setup, wild device path", EFAULT, SETUP, setup_argument(wild, NULL, 4, 0));
	expect_call("setup, no COW path", EINVAL, SETUP, setup_argument(good, NULL, 4, 0));
	expect_call("setup, wild COW path", EFAULT, SETUP, setup_argument(good, wild, 4, 0));
	expect_call("setup, wild COW path before range", EFAULT, SETUP, setup_argument(good, wild, 4, MAX_DEVICES));
	expect_call("reload, no device path", EINVAL, RELOAD_SNAP, reload_argument(NULL, wild, 0));
	expect_call("reload, wild COW path", EFAULT, RELOAD_INC, reload_argument(good, wild, 0));
	expect_call("to snapshot, no COW path", EINVAL, TRANSITION_SNAP, transition_argument(NULL, 4, 0));
	expect_call("to snapshot, wild COW path", EFAULT, TRANSITION_SNAP, transition_argument(wild, 4, 0));

	memset(path, '/', 4097);
	memcpy(path + 4096 - strlen(good), good, strlen(good) + 1);
	expect_call("setup, device path of 4097 bytes", EINVAL, SETUP, setup_argument(path, good, 4, 0));
	expect_call("setup, device path of 4096 bytes", ENOENT, SETUP, setup_argument(path + 1, good, 4, 0));
	expect_call("setup, COW path of 4097 bytes", EINVAL, SETUP, setup_argument(good, path, 4, 0));
	expect_call("to snapshot, path of 4097 bytes", EINVAL, TRANSITION_SNAP, transition_argument(path, 4, 0));
	expect_call("to snapshot, path of 4096 bytes", ENOENT, TRANSITION_SNAP, transition_argument(path + 1, 4, 0));

	memcpy(edge - strlen(good) - 1, good, strlen(good) + 1);
	expect_call("a path that ends with its page", ENOENT, SETUP,
		    setup_argument(edge - strlen(good) - 1, good, 4, 0));
	memset(edge - 8, 'x', 8);
	expect_call("a path that runs into a hole", EFAULT, SETUP, setup_argument(edge - 8, good, 4, 0));
	free(path);

	start("cow-pointers", 0);
	memset(pages, 0, page);
	put32(edge, -4, 0);
	expect_call("info, a buffer cut off behind the minor", EFAULT, INFO, edge - 4);
	memset(pages, 0, 3 * page);
	mprotect(pages, 3 * page, PROT_READ);
	expect_call("info, a buffer that cannot be written", EFAULT, INFO, pages);
	expect_call("get free, a buffer that cannot be written", EFAULT, GET_FREE, pages);
	mprotect(pages, 3 * page, PROT_READ | PROT_WRITE);
	expect_call("info, a buffer that ends with its page", 0, INFO, edge - INFO_SIZE);
	memset(edge - INFO_OLD_SIZE, 0, 4);
	expect_call("old info, a buffer that ends with its page", 0, INFO_OLD, edge - INFO_OLD_SIZE);
	finish(0);
	munmap(pages, 4 * page);
}

static bool canary_intact(const uint8_t *buffer, size_t size, uint8_t fill)
{
	for (size_t i = size; i < INFO_SIZE + CANARY_SIZE; i++)
		if (buffer[i] != fill)
			return false;
	return true;
}

static void expect_info(uint32_t minor, unsigned int command, size_t size)
{
	int error;
	const uint8_t *first = info_of(minor, command, 0x00, &error);
	const uint8_t *second;
	size_t differs = 0;

	expect_error("info", 0, error);
	expect(canary_intact(first, size, 0x00), "info writes no more than its size", "it does");
	second = info_of(minor, command, 0xFF, &error);
	expect(canary_intact(second, size, 0xFF), "info writes no more than its size", "it does");
	while (differs < size && first[differs] == second[differs])
		differs++;
	expect(differs == size, "info defines every byte", "byte %zu is left as it was", differs);
	expect_number("info, bytes 20 to 23", 0, get32(first, 20));
}

static void section_info(void)
{
	uint8_t argument[SETUP_SIZE], uuid[16];
	struct stat facts;
	char device[PATH_MAX];
	const uint8_t *got;

	memcpy(argument, setup_argument(origin, at_mount("cow-info"), 0, 5), sizeof(argument));
	put64(argument, 24, 12345678);
	argument[36] = 0x80;
	expect_call("setup with default size", 0, SETUP, argument);
	settle();
	expect_info(5, INFO, INFO_SIZE);
	expect_info(5, INFO_OLD, INFO_OLD_SIZE);

	got = info(5);
	int fd = open(origin, O_RDONLY | O_CLOEXEC);
	uint64_t limit = (lseek(fd, 0, SEEK_END) / 10 + 4095) / 4096 * 4096;

	close(fd);
	expect_number("info, minor", 5, get32(got, 0));
	expect_number("info, flags", 2, get32(got, 4));
	expect_number("info, state", 3, get64(got, 8));
	expect_number("info, error", 0, get32(got, 16));
	expect_number("info, cache size", 12345678, get64(got, 24));
	expect_number("info, COW size", limit, get64(got, 32));
	expect_number("info, sequence id", 1, get64(got, 40));
	expect((got[54] >> 4) == 4 && (got[56] >> 6) == 2, "info, the uuid is of version 4", "%02x %02x", got[54], got[56]);
	memcpy(uuid, got + 48, sizeof(uuid));
	expect(!strcmp((const char *)got + 64, "/cow-info"), "info, COW path", "\"%s\"", got + 64);
	if (!realpath(origin, device))
		device[0] = 0;
	expect(!strcmp((const char *)got + 4160, device), "info, device path", "\"%s\", not \"%s\"", got + 4160, device);
	expect_number("info, format version", 1, get64(got, 8256));
	expect(got[8272] == 1, "info, the ignore flag", "%u", got[8272]);
	expect(stat(at_mount("cow-info"), &facts) == 0 && S_ISREG(facts.st_mode), "the COW file exists", "it does not");
	expect_number("the COW file's size", limit, facts.st_size);
	expect_number("the COW file's mode", 0, facts.st_mode & 07777);

	expect_call("reconfigure", 0, RECONFIGURE, reconfigure_argument(7654321, 5));
	expect_number("info, the new cache size", 7654321, get64(info(5), 24));
	expect_call("to incremental", 0, TRANSITION_INC, minor_argument(5));
	got = info(5);
	expect_number("incremental, state", 2, get64(got, 8));
	expect_number("incremental, sequence id", 1, get64(got, 40));
	expect_number("incremental, cache size", 7654321, get64(got, 24));
	expect(!memcmp(got + 48, uuid, 16), "incremental, the same uuid", "another");
	expect(got[8272] == 1, "incremental, the ignore flag", "%u", got[8272]);
	expect_call("to snapshot", 0, TRANSITION_SNAP, transition_argument(at_mount("cow-info-2"), 0, 5));
	settle();
	got = info(5);
	expect_number("second snapshot, state", 3, get64(got, 8));
	expect_number("second snapshot, sequence id", 2, get64(got, 40));
	expect_number("second snapshot, cache size", 7654321, get64(got, 24));
	expect_number("second snapshot, COW size", limit, get64(got, 32));
	expect(!memcmp(got + 48, uuid, 16), "second snapshot, the same uuid", "another");
	expect(!strcmp((const char *)got + 64, "/cow-info-2"), "second snapshot, COW path", "\"%s\"", got + 64);
	expect(got[8272] == 1, "second snapshot, the ignore flag", "%u", got[8272]);
	expect_call("reconfigure to the default", 0, RECONFIGURE, reconfigure_argument(0, 5));
	expect_number("info, the default cache size", DEFAULT_CACHE, get64(info(5), 24));
	expect(unlink(at_mount("cow-info")) == 0, "the old COW file is left and can be deleted", "%s", errno_name(errno));
	finish(5);
	expect(!exists(at_mount("cow-info-2")), "destroy removes the COW file", "it is there");

	start("cow-info-3", 5);
	got = info(5);
	expect(got[8272] == 0, "info, no ignore flag from the padding", "%u", got[8272]);
	expect_number("info, the limit given in MiB", 4 << 20, get64(got, 32));
	expect_number("info, the default cache size", DEFAULT_CACHE, get64(got, 24));
	expect(memcmp(got + 48, uuid, 16), "each set-up has its own uuid", "the same twice");
	finish(5);
}

static void section_setup(void)
{
	char file[PATH_MAX], directory[PATH_MAX], cow[PATH_MAX];

	snprintf(file, sizeof(file), "%s/regular", mount_point);
	snprintf(directory, sizeof(directory), "%s/directory", mount_point);
	snprintf(cow, sizeof(cow), "%s/cow", mount_point);
	write_file(file, "x");
	mkdir(directory, 0755);

	expect_call("device missing", ENOENT, SETUP, setup_argument("/dev/missing", cow, 4, 0));
	expect_call("device's directory missing", ENOENT, SETUP, setup_argument("/missing/sda", cow, 4, 0));
	expect_call("device is a regular file", ENOTBLK, SETUP, setup_argument(file, cow, 4, 0));
	expect_call("device is a directory", ENOTBLK, SETUP, setup_argument(directory, cow, 4, 0));
	expect_call("device is a character device", ENOTBLK, SETUP, setup_argument("/dev/null", cow, 4, 0));
	expect_call("device not mounted", EINVAL, SETUP, setup_argument(unmounted, cow, 4, 0));
	expect_call("device mounted read-only", EINVAL, SETUP, setup_argument(read_only, cow, 4, 0));
	expect_call("device path empty", EINVAL, SETUP, setup_argument("", cow, 4, 0));
	expect(!exists(cow), "no refused set-up leaves a file", "it is there");

	expect_call("COW path is a directory", EISDIR, SETUP, setup_argument(origin, directory, 4, 0));
	expect(exists(directory), "the directory is left", "it is gone");
	expect_call("COW path's parent missing", ENOENT, SETUP, setup_argument(origin, at_mount("missing/cow"), 4, 0));

	snprintf(cow, sizeof(cow), "%s/cow-elsewhere", other);
	expect_call("COW file on another filesystem", EINVAL, SETUP, setup_argument(origin, cow, 4, 0));
	expect(!exists(cow), "nothing is left on the other filesystem", "it is there");

	snprintf(cow, sizeof(cow), "%s/link", mount_point);
	if (symlink(file, cow))
		expect(false, "preparing a link", "%s", errno_name(errno));
	expect_call("COW path is a link", ELOOP, SETUP, setup_argument(origin, cow, 4, 0));
	expect(exists(cow) && file_holds(file, "x"), "link and target are untouched", "they are not");
	unlink(cow);
	if (symlink(at_mount("dangling-target"), cow))
		expect(false, "preparing a link", "%s", errno_name(errno));
	expect_call("COW path is a dangling link", ELOOP, SETUP, setup_argument(origin, cow, 4, 0));
	expect(!exists(at_mount("dangling-target")), "the link's target is not created", "it is there");
	unlink(cow);

	expect_call("COW path is a file of someone else", EEXIST, SETUP, setup_argument(origin, file, 4, 0));
	expect(file_holds(file, "x"), "the file is untouched", "it is not");
	mkfifo(cow, 0600);
	expect_call("COW path is a FIFO", EEXIST, SETUP, setup_argument(origin, cow, 4, 0));
	unlink(cow);

	snprintf(cow, sizeof(cow), "%s/cow", mount_point);
	expect_call("no space for the COW file", ENOSPC, SETUP, setup_argument(origin, cow, 4096, 0));
	expect(!exists(cow), "no space: nothing is left", "it is there");
	expect_call("limit below header, index and 1 MiB", EINVAL, SETUP, setup_argument(origin, cow, 1, 0));
	expect(!exists(cow), "limit too small: nothing is created", "it is there");
	expect_call("limit beyond 64 bits", EFBIG, SETUP, setup_argument(origin, cow, 1ULL << 44, 0));
	expect(!exists(cow), "limit beyond 64 bits: nothing is left", "it is there");

	write_file(cow, "");
	expect_call("no space, an empty file was there", ENOSPC, SETUP, setup_argument(origin, cow, 4096, 0));
	expect(exists(cow), "an empty file that was there is left", "it is gone");
	expect(file_holds(cow, ""), "and is empty", "it is not");
	start("cow", 0);
	finish(0);
	expect(!exists(cow), "destroy removes the reused file", "it is there");

	start("cow", 0);
	expect_call("to incremental", 0, TRANSITION_INC, minor_argument(0));
	expect_call("to snapshot", 0, TRANSITION_SNAP, transition_argument(at_mount("cow-2"), 4, 0));
	finish(0);
	expect(exists(cow), "the replaced COW file is left", "it is gone");
	start("cow", 0);
	finish(0);
	expect(!exists(cow), "a COW file that no tracker uses is reused", "it is there");
	unlink(file);
	rmdir(directory);
}

static void section_live(void)
{
	char cow[PATH_MAX], aside[PATH_MAX], mine[PATH_MAX];
	int fd;

	snprintf(cow, sizeof(cow), "%s/cow-live", mount_point);
	snprintf(aside, sizeof(aside), "%s/aside", mount_point);
	snprintf(mine, sizeof(mine), "%s/mine", mount_point);
	write_file(mine, "x");
	start("cow-live", 2);
	for (int incremental = 0; incremental < 2; incremental++) {
		expect_error("unlink of the live COW file", EPERM, unlink(cow) ? errno : 0);
		expect_error("rename of the live COW file", EPERM, rename(cow, aside) ? errno : 0);
		expect_error("rename onto the live COW file", EPERM, rename(mine, cow) ? errno : 0);
		expect_error("link to the live COW file", EPERM, link(cow, aside) ? errno : 0);
		expect_error("truncation of the live COW file", EPERM, truncate(cow, 0) ? errno : 0);
		fd = open(cow, O_WRONLY | O_CLOEXEC);
		expect_error("opening the live COW file to write", EPERM, fd < 0 ? errno : 0);
		if (incremental) {
			expect_call("to snapshot with the current COW file", EPERM, TRANSITION_SNAP,
				    transition_argument(cow, 4, 2));
			expect_number("the state is still incremental", 2, get64(info(2), 8));
		} else {
			expect_call("to incremental", 0, TRANSITION_INC, minor_argument(2));
		}
	}
	finish(2);
	expect(!exists(cow), "destroy removes the COW file", "it is there");
	unlink(mine);
}

static void section_states(void)
{
	char cow[PATH_MAX], directory[PATH_MAX], elsewhere[PATH_MAX];
	const uint8_t *got;
	uint64_t changed;
	struct stat facts;
	int image;

	snprintf(cow, sizeof(cow), "%s/cow-states", mount_point);
	snprintf(directory, sizeof(directory), "%s/directory", mount_point);
	snprintf(elsewhere, sizeof(elsewhere), "%s/cow-elsewhere", other);
	mkdir(directory, 0755);
	start("cow-states", 6);
	expect(exists("/dev/elastio-snap6"), "the image exists", "it does not");
	expect_call("to snapshot from a snapshot", EINVAL, TRANSITION_SNAP, transition_argument(at_mount("new"), 4, 6));
	expect(!exists(at_mount("new")), "a refused transition creates no file", "it is there");

	image = open("/dev/elastio-snap6", O_RDONLY | O_CLOEXEC);
	expect(image >= 0, "opening the image", "%s", errno_name(errno));
	expect_call("destroy, image open", EBUSY, DESTROY, minor_argument(6));
	expect_call("to incremental, image open", EBUSY, TRANSITION_INC, minor_argument(6));
	expect_call("to snapshot, image open", EBUSY, TRANSITION_SNAP, transition_argument(at_mount("new"), 4, 6));
	expect_call("reconfigure, image open", EBUSY, RECONFIGURE, reconfigure_argument(0, 6));
	expect_info(6, INFO, INFO_SIZE);
	close(image);
	image = open("/dev/elastio-snap6", O_RDWR | O_CLOEXEC);
	expect(image < 0 || pwrite(image, "x", 1, 0) < 0, "the image cannot be written", "it can");
	if (image >= 0)
		close(image);
	settle();

	expect_call("to incremental", 0, TRANSITION_INC, minor_argument(6));
	settle();
	expect(!exists("/dev/elastio-snap6"), "an incremental has no image", "it has");
	expect_call("to incremental from an incremental", EINVAL, TRANSITION_INC, minor_argument(6));
	expect(stat(cow, &facts) == 0 && facts.st_size % 32768 == 4096, "an incremental's file is header and index",
	       "%lld bytes", (long long)facts.st_size);

	changed = get64(info(6), 8264);
	expect_call("to snapshot, directory", EISDIR, TRANSITION_SNAP, transition_argument(directory, 4, 6));
	expect_call("to snapshot, no space", ENOSPC, TRANSITION_SNAP, transition_argument(at_mount("new"), 4096, 6));
	expect_call("to snapshot, missing parent", ENOENT, TRANSITION_SNAP, transition_argument("/missing/new", 4, 6));
	expect_call("to snapshot, limit too small", EINVAL, TRANSITION_SNAP, transition_argument(at_mount("new"), 1, 6));
	expect_call("to snapshot, other filesystem", EINVAL, TRANSITION_SNAP, transition_argument(elsewhere, 4, 6));
	expect(!exists(at_mount("new")) && !exists(elsewhere), "a failed transition leaves no file", "it does");
	got = info(6);
	expect_number("a failed transition leaves the state", 2, get64(got, 8));
	expect_number("a failed transition leaves no error", 0, get32(got, 16));
	expect(get64(got, 8264) >= changed, "a failed transition leaves the changed blocks", "there are fewer");

	expect_call("to snapshot", 0, TRANSITION_SNAP, transition_argument(at_mount("new"), 4, 6));
	settle();
	expect_number("the second snapshot's sequence id", 2, get64(info(6), 40));
	expect(exists("/dev/elastio-snap6"), "the second snapshot has an image", "it has none");
	finish(6);
	settle();
	expect(!exists("/dev/elastio-snap6"), "destroy removes the image", "it is there");
	unlink(cow);
	rmdir(directory);
}

static void section_reload(void)
{
	static const uint8_t zeros[16];
	uint8_t argument[RELOAD_SIZE];
	const uint8_t *got;
	int error;

	expect_call("reload, missing device", ENOENT, RELOAD_SNAP, reload_argument("/missing", "/cow", 1));
	expect_call("reload, empty device path", EINVAL, RELOAD_INC, reload_argument("", "/cow", 1));
	expect_call("reload, a directory", ENOTBLK, RELOAD_SNAP, reload_argument(mount_point, "/cow", 1));
	expect_call("reload, mounted for writing", EINVAL, RELOAD_SNAP, reload_argument(origin, "/cow", 1));
	expect_call("reload, mounted for writing", EINVAL, RELOAD_INC, reload_argument(origin, "/cow", 1));
	info_of(1, INFO, 0, &error);
	expect_error("a refused reload leaves nothing", ENOENT, error);

	memcpy(argument, reload_argument(unmounted, "var//cow", 2), sizeof(argument));
	put64(argument, 16, 12345678);
	argument[28] = 0x80;
	expect_call("reload of a snapshot", 0, RELOAD_SNAP, argument);
	expect_call("reload, minor in use, missing device", EBUSY, RELOAD_INC, reload_argument("/missing", "/cow", 2));
	expect_call("setup, minor of an unverified", EBUSY, SETUP, setup_argument(origin, at_mount("cow"), 4, 2));
	expect_call("reload of the same device", 0, RELOAD_INC, reload_argument(unmounted, "/cow", 3));
	expect_info(2, INFO, INFO_SIZE);
	expect_info(2, INFO_OLD, INFO_OLD_SIZE);
	got = info(2);
	expect_number("unverified snapshot, state", 5, get64(got, 8));
	expect_number("unverified, error", 0, get32(got, 16));
	expect_number("unverified, cache size", 12345678, get64(got, 24));
	expect_number("unverified, COW size", 0, get64(got, 32));
	expect_number("unverified, sequence id", 0, get64(got, 40));
	expect(!memcmp(got + 48, zeros, 16), "unverified, the uuid is zeros", "it is not");
	expect(!strcmp((const char *)got + 64, "var//cow"), "unverified, COW path as given", "\"%s\"", got + 64);
	expect(!strcmp((const char *)got + 4160, unmounted), "unverified, device as given", "\"%s\"", got + 4160);
	expect_number("unverified, format version", 0, get64(got, 8256));
	expect_number("unverified, changed blocks", 0, get64(got, 8264));
	expect(got[8272] == 1, "unverified, the ignore flag", "%u", got[8272]);
	expect_number("unverified incremental, state", 4, get64(info(3), 8));
	expect(!exists("/dev/elastio-snap2"), "an unverified snapshot has no image", "it has");
	for (uint32_t minor = 2; minor <= 3; minor++) {
		expect_call("to incremental, unverified", EINVAL, TRANSITION_INC, minor_argument(minor));
		expect_call("to snapshot, unverified", EINVAL, TRANSITION_SNAP, transition_argument(at_mount("new"), 4, minor));
		expect_call("reconfigure, unverified", 0, RECONFIGURE, reconfigure_argument(7654321, minor));
		expect_number("unverified, the new cache size", 7654321, get64(info(minor), 24));
		expect_call("destroy, unverified", 0, DESTROY, minor_argument(minor));
	}
	expect(!exists(at_mount("new")), "a refused transition creates no file", "it is there");
}

struct changes_argument {
	uint8_t uuid[16];
	uint64_t seqid, block, extents;
	uint32_t max_extents, nr_extents, minor, complete;
};

static void section_extension(void)
{
	struct {
		uint32_t extension, reserved;
		uint64_t capabilities;
		char module[32];
	} version;
	uint64_t extents[8];
	struct changes_argument good = { .seqid = 1, .extents = (uintptr_t)extents, .max_extents = 4, .minor = 8 }, bad;

	memset(&version, GARBAGE, sizeof(version));
	expect_call("version", 0, VERSION, &version);
	expect_number("the extension's version", 1, version.extension);
	expect_number("the capabilities", 1, version.capabilities);
	expect(memchr(version.module, 0, sizeof(version.module)) && version.module[0], "the module's version", "none");
	expect_call("version, wild structure", EFAULT, VERSION, (void *)1);

	start("cow-extension", 8);
	memcpy(good.uuid, info(8) + 48, sizeof(good.uuid));
	bad = good;
	expect_call("changes", 0, CHANGES, &bad);
	expect(bad.nr_extents <= 4 && bad.complete == (bad.nr_extents < 4), "changes say whether they are complete",
	       "%u extents, complete %u", bad.nr_extents, bad.complete);
	bad = good;
	bad.minor = 9;
	expect_call("changes, empty minor", ENOENT, CHANGES, &bad);
	bad.minor = MAX_DEVICES;
	expect_call("changes, out of range", EINVAL, CHANGES, &bad);
	bad = good;
	bad.seqid = 2;
	expect_call("changes, another sequence id", ESTALE, CHANGES, &bad);
	bad = good;
	bad.uuid[3] ^= 1;
	expect_call("changes, another uuid", ESTALE, CHANGES, &bad);
	bad = good;
	bad.max_extents = 0;
	expect_call("changes, no room", EINVAL, CHANGES, &bad);
	bad.max_extents = 65537;
	expect_call("changes, too much room", EINVAL, CHANGES, &bad);
	bad = good;
	bad.block = 1ULL << 60;
	expect_call("changes, behind the end", EINVAL, CHANGES, &bad);
	bad = good;
	write_file(at_mount("changed"), "changed");
	sync();
	bad.extents = 1;
	expect_call("changes, wild extents", EFAULT, CHANGES, &bad);
	expect_call("changes, wild structure", EFAULT, CHANGES, (void *)1);
	unlink(at_mount("changed"));
	finish(8);
}

static void drop_sys_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		_exit(2);
	data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &header, data))
		_exit(2);
}

static void section_capability(void)
{
	static const unsigned int commands[] = {
		SETUP, RELOAD_SNAP, RELOAD_INC, DESTROY, TRANSITION_INC, TRANSITION_SNAP, RECONFIGURE, INFO, INFO_OLD, GET_FREE,
	};
	struct stat facts;
	int status;

	expect(stat("/dev/elastio-snap-ctl", &facts) == 0, "the control node exists", "it does not");
	expect_number("the control node's mode", S_IFCHR | 0600, facts.st_mode);
	expect_number("the control node's owner", 0, facts.st_uid);
	expect_call("with the capability", 0, GET_FREE, &status);
	fflush(stdout);
	pid_t child = fork();

	if (child == 0) {
		uint8_t argument[INFO_SIZE] = { 0 };
		char name[64];

		drop_sys_admin();
		for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
			snprintf(name, sizeof(name), "0x%08X without the capability", commands[i]);
			expect_call(name, EPERM, commands[i], argument);
		}
		_exit(0);
	}
	waitpid(child, &status, 0);
	expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "dropping the capability", "status %d", status);
}

static const struct {
	const char *name;
	void (*run)(void);
} sections[] = {
	{ "numbers", section_numbers }, { "minors", section_minors }, { "pointers", section_pointers },
	{ "info", section_info },	{ "setup", section_setup },   { "live", section_live },
	{ "states", section_states },	{ "capability", section_capability },
	{ "reload", section_reload },	{ "extension", section_extension },
};

int main(int argc, char **argv)
{
	if (argc != 7) {
		fputs("usage: contract SECTION ORIGIN MOUNT UNMOUNTED READONLY OTHER\n", stderr);
		return 2;
	}
	origin = argv[2];
	mount_point = argv[3];
	unmounted = argv[4];
	read_only = argv[5];
	other = argv[6];
	control_fd = open("/dev/elastio-snap-ctl", O_RDONLY | O_CLOEXEC);
	if (control_fd < 0) {
		perror("/dev/elastio-snap-ctl");
		return 1;
	}
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (strcmp(argv[1], sections[i].name))
			continue;
		sections[i].run();
		puts("done");
		return 0;
	}
	fprintf(stderr, "no section %s\n", argv[1]);
	return 2;
}
