// SPDX-License-Identifier: Apache-2.0
// fsx FILE SECONDS SEED: everything that can be done with a file, at random, and after each step the file is what it must be:
// in memory there is a copy with which it is compared. The file is new and up to 1 MiB long. Prints how many steps were done.
#include <linux/falloc.h>
#include <time.h>

#include "guest.h"
#include "random.h"

enum { MAX_SIZE = 1 << 20, MAX_STEP = 96 << 10 };

enum step {
	WRITE, WRITE_DIRECT, WRITE_MAPPED, READ, READ_DIRECT, READ_MAPPED, TRUNCATE, ALLOCATE, PUNCH, ZERO, COLLAPSE, INSERT,
	COPY, SYNC, NR_STEPS,
};

static const char *path;
static int fd, direct_fd;
static uint8_t *expected, *buffer;
static uint64_t size;

static void must(bool good, const char *what)
{
	if (!good)
		die("%s: %s: %s", path, what, strerrorname_np(errno));
}

static void compare(const uint8_t *found, uint64_t at, uint64_t length, const char *what)
{
	for (uint64_t i = 0; i < length; i++)
		if (found[i] != expected[at + i])
			die("%s: %s: byte %" PRIu64 " is %#x instead of %#x", path, what, at + i, found[i], expected[at + i]);
}

static void grow_to(uint64_t end)
{
	if (end > size)
		size = end;
}

static void fill_random(uint64_t length)
{
	uint8_t value = below(256);

	for (uint64_t i = 0; i < length; i++)
		buffer[i] = value + i * 7;
}

static void step_write(uint64_t at, uint64_t length, bool direct)
{
	if (direct) {
		at -= at % SECTOR;
		length += SECTOR - 1;
		length -= length % SECTOR;
	}
	fill_random(length);
	must(pwrite(direct ? direct_fd : fd, buffer, length, at) == (ssize_t)length, "write");
	memcpy(expected + at, buffer, length);
	grow_to(at + length);
}

static void step_read(uint64_t at, uint64_t length, bool direct)
{
	if (direct) {
		at -= at % SECTOR;
		length -= length % SECTOR;
	}
	if (at >= size)
		return;
	if (length > size - at)
		length = direct ? (size - at) / SECTOR * SECTOR : size - at;
	must(pread(direct ? direct_fd : fd, buffer, length, at) == (ssize_t)length, "read");
	compare(buffer, at, length, direct ? "direct read" : "read");
}

static void step_mapped(uint64_t at, uint64_t length, bool write)
{
	if (at >= size)
		return;
	if (length > size - at)
		length = size - at;
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	must(memory != MAP_FAILED, "mmap");
	if (write) {
		fill_random(length);
		memcpy(memory + at, buffer, length);
		memcpy(expected + at, buffer, length);
		must(below(2) || msync(memory, size, MS_SYNC) == 0, "msync");
	} else {
		compare(memory + at, at, length, "mapped read");
	}
	must(munmap(memory, size) == 0, "munmap");
}

static void step_truncate(uint64_t to)
{
	must(ftruncate(fd, to) == 0, "truncate");
	if (to < size)
		memset(expected + to, 0, size - to);
	size = to;
}

// Whether a filesystem has this at all is for the first try to say.
static bool allocate_range(int mode, uint64_t at, uint64_t length, const char *what)
{
	if (fallocate(fd, mode, at, length) == 0)
		return true;
	must(errno == EOPNOTSUPP || errno == ENOSPC, what);
	return false;
}

static void step_fallocate(enum step step, uint64_t at, uint64_t length)
{
	bool keep = below(2);

	if (step == ALLOCATE) {
		if (allocate_range(keep ? FALLOC_FL_KEEP_SIZE : 0, at, length, "fallocate") && !keep)
			grow_to(at + length);
	} else if (step == PUNCH) {
		if (allocate_range(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length, "punch hole") && at < size)
			memset(expected + at, 0, at + length < size ? length : size - at);
	} else if (allocate_range(FALLOC_FL_ZERO_RANGE | (keep ? FALLOC_FL_KEEP_SIZE : 0), at, length, "zero range")) {
		if (!keep)
			grow_to(at + length);
		if (at < size)
			memset(expected + at, 0, at + length < size ? length : size - at);
	}
}

static void step_move(bool collapse, uint64_t at, uint64_t length)
{
	at -= at % BLOCK;
	length = (length / BLOCK + 1) * BLOCK;
	if (collapse) {
		if (at + length >= size || !allocate_range(FALLOC_FL_COLLAPSE_RANGE, at, length, "collapse range"))
			return;
		memmove(expected + at, expected + at + length, size - at - length);
		size -= length;
		memset(expected + size, 0, length);
	} else {
		if (at >= size || size + length > MAX_SIZE ||
		    !allocate_range(FALLOC_FL_INSERT_RANGE, at, length, "insert range"))
			return;
		memmove(expected + at + length, expected + at, size - at);
		memset(expected + at, 0, length);
		size += length;
	}
}

static void step_copy(uint64_t from, uint64_t to, uint64_t length)
{
	loff_t in = from, out = to;
	ssize_t n;

	if (from >= size)
		return;
	if (length > size - from)
		length = size - from;
	// Ranges of one file must not overlap.
	if (from < to + length && to < from + length)
		return;
	n = copy_file_range(fd, &in, fd, &out, length, 0);
	must(n >= 0, "copy_file_range");
	memmove(expected + to, expected + from, n);
	if (n)
		grow_to(to + n);
}

static void take_step(void)
{
	enum step step = below(NR_STEPS);
	uint64_t at = below(MAX_SIZE - MAX_STEP - BLOCK), length = 1 + below(MAX_STEP - SECTOR);

	switch (step) {
	case WRITE:
	case WRITE_DIRECT:
		step_write(at, length, step == WRITE_DIRECT);
		break;
	case READ:
	case READ_DIRECT:
		step_read(at, length, step == READ_DIRECT);
		break;
	case WRITE_MAPPED:
	case READ_MAPPED:
		step_mapped(at, length, step == WRITE_MAPPED);
		break;
	case TRUNCATE:
		if (below(4) == 0)
			step_truncate(at);
		break;
	case ALLOCATE:
	case PUNCH:
	case ZERO:
		step_fallocate(step, at, length);
		break;
	case COLLAPSE:
	case INSERT:
		step_move(step == COLLAPSE, at, length);
		break;
	case COPY:
		step_copy(at, below(MAX_SIZE - MAX_STEP), length);
		break;
	default:
		must(below(2) ? fsync(fd) == 0 : fdatasync(fd) == 0, "fsync");
	}
}

int main(int argc, char **argv)
{
	uint64_t steps = 0;

	if (argc != 4)
		die("usage: fsx FILE SECONDS SEED");
	path = argv[1];
	seed_random(number(argv[3]));
	expected = allocate(MAX_SIZE + MAX_STEP);
	buffer = allocate(MAX_STEP + BLOCK);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	direct_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	must(fd >= 0 && direct_fd >= 0, "open");
	for (time_t end = time(NULL) + number(argv[2]); time(NULL) < end; steps++) {
		take_step();
		must(lseek(fd, 0, SEEK_END) == (off_t)size, "size");
		if (steps % 32 == 0)
			step_read(0, size < MAX_STEP ? size : MAX_STEP, false);
	}
	for (uint64_t at = 0; at < size; at += MAX_STEP)
		step_read(at, MAX_STEP, false);
	must(unlink(path) == 0, "unlink");
	printf("%" PRIu64 " steps\n", steps);
	return 0;
}
