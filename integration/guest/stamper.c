// SPDX-License-Identifier: Apache-2.0
// stamper run LOG SEED THREADS ALIGN_SECTORS TARGET...: creates files of stamped sectors and goes on overwriting them in
//   place in the background. TARGET is [HOW:]PATH,MIB (written through the file) or [HOW:]PATH,MIB,DEVICE,FIRST_SECTOR (the
//   file's sectors are written through the device, on which its filesystem begins there). HOW is direct, past the page cache
//   and one write after the other, when it is left out; uring: several at once; through a file also buffered, or mapped
// stamper call LOG NAME COMMAND...: runs a command and logs when it began and ended; exits with its status
// stamper pause|resume|stop LOG: pause and stop return when no write is under way; stop fails if a write ever failed
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "stamp.h"
#include "uring.h"

enum how { DIRECT, URING, BUFFERED, MAPPED };

enum {
	// Writes that one thread has under way by io_uring, at most: each batch has a random number of them.
	MAX_DEPTH = 32,
	// What is in the page cache is written out after so many writes.
	SYNC_EVERY = 64,
};

// The part of a target that one thread writes, alone; each sector is in one write at a time.
struct stripe {
	enum how how;
	// Of MAPPED.
	unsigned char *memory;
	struct log *log;
	uint64_t random;
	uint32_t target;
	uint32_t align;
	int fd;
	bool raw;
	uint64_t raw_start;
	uint64_t first;
	uint64_t nr_sectors;
};

static uint64_t below(uint64_t *state, uint64_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 16) % limit;
}

// Where on the device a sector of the target is; `nr` is lowered to what is contiguous.
static uint64_t device_sector(const struct target *target, uint64_t sector, uint32_t *nr)
{
	for (uint32_t i = 0; i < target->nr_extents; i++) {
		const struct extent *e = &target->extents[i];

		if (sector < e->file_sector || sector >= e->file_sector + e->nr_sectors)
			continue;
		if (*nr > e->file_sector + e->nr_sectors - sector)
			*nr = e->file_sector + e->nr_sectors - sector;
		return e->disk_sector + sector - e->file_sector;
	}
	die("sector %" PRIu64 " has no extent", sector);
}

static void give_up(struct log *log, int error)
{
	log->error = error;
	log->stop = true;
}

// Makes the record and the content of a write of up to `nr` sectors, and says where it goes; NULL: there is no room for it.
static struct record *begin_write(struct stripe *s, unsigned char *buffer, uint64_t sector, uint32_t nr, uint64_t *at)
{
	struct log *log = s->log;

	*at = sector;
	if (s->raw)
		*at = s->raw_start + device_sector(&log->targets[s->target], sector, &nr);
	uint64_t index = atomic_fetch_add(&log->nr_records, 1);

	if (index >= MAX_RECORDS) {
		give_up(log, EOVERFLOW);
		return NULL;
	}
	struct record *r = &log->records[index];
	*r = (struct record){ .sector = sector, .nr_sectors = nr, .target = s->target,
			      .done = NOT_DONE, .seq = tick(log) };
	for (uint32_t i = 0; i < nr; i++)
		make_stamp((uint64_t *)(buffer + i * SECTOR), s->target, sector + i, r->seq);
	return r;
}

static void end_write(struct log *log, struct record *r, ssize_t result)
{
	if (result == (ssize_t)r->nr_sectors * SECTOR)
		r->done = tick(log);
	else
		give_up(log, result < 0 ? -result : EIO);
}

static void write_stamps(struct stripe *s, unsigned char *buffer, uint64_t sector, uint32_t nr)
{
	uint64_t at;
	struct record *r = begin_write(s, buffer, sector, nr, &at);

	if (!r)
		return;
	if (s->how == MAPPED) {
		memcpy(s->memory + at * SECTOR, buffer, r->nr_sectors * SECTOR);
		end_write(s->log, r, r->nr_sectors * SECTOR);
		return;
	}
	ssize_t n = pwrite(s->fd, buffer, r->nr_sectors * SECTOR, at * SECTOR);

	end_write(s->log, r, n < 0 ? -errno : n);
}

// Sectors [first, first + nr) of a target, of which a random part is to be written.
static uint64_t choose(struct stripe *s, uint64_t first, uint64_t nr_sectors, uint32_t *nr)
{
	// Small ones, whole blocks, and large ones that begin and end inside blocks.
	static const uint32_t limits[] = { 8, 8, 32, MAX_WRITE_SECTORS };

	*nr = (1 + below(&s->random, limits[below(&s->random, 4)])) / s->align * s->align;
	if (!*nr)
		*nr = s->align;
	return first + below(&s->random, nr_sectors - *nr + 1) / s->align * s->align;
}

static void uring_ended(void *context, uint64_t id, int32_t result)
{
	struct log *log = context;

	end_write(log, &log->records[id], result);
}

// Some writes, each in a part of the stripe of its own, all of them under way at once.
static void write_batch(struct stripe *s, struct uring *ring, unsigned char *buffer)
{
	uint64_t room = s->nr_sectors / MAX_WRITE_SECTORS;
	uint32_t depth = 1 + below(&s->random, room < MAX_DEPTH ? room : MAX_DEPTH);
	uint64_t part = room / depth * MAX_WRITE_SECTORS;

	for (uint32_t i = 0; i < depth; i++) {
		unsigned char *mine = buffer + i * MAX_WRITE_SECTORS * SECTOR;
		uint32_t nr;
		uint64_t at, sector = choose(s, s->first + i * part, part, &nr);
		struct record *r = begin_write(s, mine, sector, nr, &at);

		if (!r)
			break;
		uring_queue_write(ring, s->fd, mine, r->nr_sectors * SECTOR, at * SECTOR, r - s->log->records);
	}
	uring_write_all(ring, uring_ended, s->log);
}

static void *write_stripe(void *argument)
{
	struct stripe *s = argument;
	unsigned char *buffer = allocate(MAX_DEPTH * MAX_WRITE_SECTORS * SECTOR);
	struct log *log = s->log;
	struct uring ring = { .fd = -1 };

	if (s->how == URING)
		uring_init(&ring, MAX_DEPTH);
	for (uint32_t written = 1; !log->stop; written++) {
		if (log->pause) {
			log->nr_paused++;
			while (log->pause && !log->stop)
				usleep(1000);
			log->nr_paused--;
			continue;
		}
		if (s->how == URING) {
			write_batch(s, &ring, buffer);
			continue;
		}
		uint32_t nr;
		uint64_t sector = choose(s, s->first, s->nr_sectors, &nr);

		write_stamps(s, buffer, sector, nr);
		if (s->how != DIRECT && written % SYNC_EVERY == 0 && fdatasync(s->fd))
			give_up(log, errno);
	}
	free(buffer);
	return NULL;
}

// Creates a target, every sector stamped once, its extents known; returns the file.
static int create_target(struct log *log, uint32_t index, const char *path, uint64_t nr_sectors)
{
	struct target *target = &log->targets[index];
	unsigned char *buffer = allocate(MAX_WRITE_SECTORS * SECTOR);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);

	if (fd < 0 || posix_fallocate(fd, 0, nr_sectors * SECTOR))
		die_errno(path);
	target->nr_sectors = nr_sectors;
	struct stripe whole = { .log = log, .target = index, .fd = fd };

	for (uint64_t at = 0; at < nr_sectors && !log->error; at += MAX_WRITE_SECTORS)
		write_stamps(&whole, buffer, at, MAX_WRITE_SECTORS);
	if (log->error)
		die("%s: %s", path, strerrorname_np(log->error));
	if (fsync(fd))
		die_errno(path);
	target->nr_extents = map_extents(fd, path, target->extents, MAX_TARGET_EXTENTS);
	free(buffer);
	return fd;
}

static enum how parse_how(char **text)
{
	static const char *const words[] = {
		[DIRECT] = "direct:", [URING] = "uring:", [BUFFERED] = "buffered:", [MAPPED] = "mapped:",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t length = strlen(words[i]);

		if (!strncmp(*text, words[i], length)) {
			*text += length;
			return i;
		}
	}
	return DIRECT;
}

// A file that was made for writing past the page cache is to be written through it.
static void use_page_cache(struct stripe *s, const char *path)
{
	close(s->fd);
	s->fd = open(path, O_RDWR);
	if (s->fd < 0)
		die_errno(path);
	if (s->how != MAPPED)
		return;
	s->memory = mmap(NULL, s->nr_sectors * SECTOR, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (s->memory == MAP_FAILED)
		die_errno(path);
	s->log->targets[s->target].torn_writes = true;
}

// Parses [HOW:]PATH,MIB[,DEVICE,FIRST_SECTOR].
static struct stripe add_target(struct log *log, char *text)
{
	enum how how = parse_how(&text);
	char *path = strsep(&text, ","), *mib = strsep(&text, ","), *device = strsep(&text, ",");
	uint32_t index = log->nr_targets++;

	if (!mib || index == MAX_TARGETS)
		die("%s: expected PATH,MIB or PATH,MIB,DEVICE,FIRST_SECTOR, at most %d of them", path,
		    MAX_TARGETS);
	struct stripe s = { .log = log, .target = index, .raw = device, .how = how };

	if (s.raw && (how == BUFFERED || how == MAPPED))
		die("%s: a device is written past the page cache", path);

	s.nr_sectors = number(mib) * 2048;
	s.fd = create_target(log, index, path, s.nr_sectors);
	log->targets[index].whole_writes = !s.raw && how != MAPPED;
	if (how == BUFFERED || how == MAPPED)
		use_page_cache(&s, path);
	if (s.raw) {
		s.raw_start = number(text);
		s.fd = open(device, O_WRONLY | O_DIRECT);
		if (s.fd < 0)
			die_errno(device);
	}
	return s;
}

static int run(char **argv)
{
	struct log *log = map_log(argv[0], true);
	uint64_t seed = number(argv[1]);
	struct stripe targets[MAX_TARGETS];

	log->nr_threads = number(argv[2]);
	for (uint32_t i = 0; argv[4 + i]; i++)
		targets[i] = add_target(log, argv[4 + i]);

	pid_t pid = fork();

	if (pid < 0)
		die_errno("fork");
	if (pid)
		return 0;
	setsid();
	signal(SIGHUP, SIG_IGN);
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	struct stripe *stripes = allocate(log->nr_threads * sizeof(*stripes));
	pthread_t *threads = allocate(log->nr_threads * sizeof(*threads));
	uint32_t per_target = log->nr_threads / log->nr_targets;

	for (uint32_t i = 0; i < log->nr_threads; i++) {
		struct stripe *s = &stripes[i];

		*s = targets[i % log->nr_targets];
		s->align = number(argv[3]);
		// Only whole stripes of the alignment: a stripe has one writer.
		s->nr_sectors = s->nr_sectors / per_target / MAX_WRITE_SECTORS * MAX_WRITE_SECTORS;
		s->first = i / log->nr_targets * s->nr_sectors;
		s->random = (seed * 64 + i + 1) * 0x9e3779b97f4a7c15ULL;
		if (pthread_create(&threads[i], NULL, write_stripe, s))
			die("no thread");
	}
	for (uint32_t i = 0; i < log->nr_threads; i++)
		pthread_join(threads[i], NULL);
	log->finished = true;
	return 0;
}

static int call(struct log *log, const char *name, char **command)
{
	uint32_t index = atomic_fetch_add(&log->nr_calls, 1);
	int status;

	if (index >= MAX_CALLS)
		die("more than %d calls", MAX_CALLS);
	struct call *c = &log->calls[index];

	snprintf(c->name, sizeof(c->name), "%s", name);
	c->begin = tick(log);
	pid_t pid = fork();

	if (pid == 0) {
		execvp(command[0], command);
		die_errno(command[0]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die_errno("fork");
	c->end = tick(log);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

static int pause_writes(struct log *log)
{
	log->pause = true;
	while (log->nr_paused < log->nr_threads && !log->stop)
		usleep(1000);
	return log->error != 0;
}

static int resume_writes(struct log *log)
{
	log->pause = false;
	while (log->nr_paused && !log->stop)
		usleep(1000);
	return log->error != 0;
}

static int stop(struct log *log)
{
	log->stop = true;
	while (!log->finished)
		usleep(1000);
	if (log->error)
		die("a write to the origin failed: %s", strerrorname_np(log->error));
	printf("%" PRIu64 " writes\n", log->nr_records);
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[1] : "";

	if (!strcmp(command, "run") && argc >= 7) {
		uint64_t threads = number(argv[4]), align = number(argv[5]);

		if (threads < (uint64_t)argc - 6 || threads % (argc - 6))
			die("the number of threads has to be a multiple of that of the targets");
		if (!align || MAX_WRITE_SECTORS % align)
			die("the alignment has to divide %d", MAX_WRITE_SECTORS);
		return run(argv + 2);
	}
	if (!strcmp(command, "call") && argc >= 5)
		return call(map_log(argv[2], false), argv[3], argv + 4);
	if (!strcmp(command, "pause") && argc == 3)
		return pause_writes(map_log(argv[2], false));
	if (!strcmp(command, "resume") && argc == 3)
		return resume_writes(map_log(argv[2], false));
	if (!strcmp(command, "stop") && argc == 3)
		return stop(map_log(argv[2], false));
	die("usage: stamper run LOG SEED THREADS ALIGN_SECTORS TARGET... | call LOG NAME COMMAND... | "
	    "pause|resume|stop LOG");
}
