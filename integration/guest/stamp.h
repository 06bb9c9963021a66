/* SPDX-License-Identifier: Apache-2.0 */
// Stamped sectors, and the log of who wrote what when: shared by stamper and stampcheck.
//
// One clock orders everything: it ticks at each submission, each completion, and at the begin and end of each call that is
// to be judged. The tick of a write's submission is its sequence number. The log is a file in memory that the writing
// threads, `stamper call` and `stampcheck` map together, so there is nothing to send and nothing to lose.
#ifndef STAMP_H
#define STAMP_H

#include <stdatomic.h>

#include "guest.h"

#define STAMP_MAGIC 0x706d617473206f69ULL
#define STAMP_WORDS (SECTOR / 8)
#define LOG_MAGIC 0x31676f6c706d6174ULL
#define NOT_DONE UINT64_MAX

enum {
	MAX_CALLS = 4096,
	MAX_TARGETS = 4,
	MAX_TARGET_EXTENTS = 4096,
	MAX_RECORDS = 4 << 20,
	MAX_WRITE_SECTORS = 128,
};

struct call {
	char name[32];
	uint64_t begin;
	uint64_t end;
};

struct target {
	uint64_t nr_sectors;
	// The filesystem's freeze waits for these writes: all of one is in an image or nothing.
	bool whole_writes;
	// Stores to mapped memory: the freeze stops them anywhere, in the middle of a sector, too.
	bool torn_writes;
	uint32_t nr_extents;
	struct extent extents[MAX_TARGET_EXTENTS];
};

struct record {
	uint64_t seq;

	_Atomic uint64_t done;
	uint64_t sector;
	uint32_t nr_sectors;
	uint32_t target;
};

struct log {
	uint64_t magic;
	_Atomic uint64_t clock;
	atomic_bool stop;
	atomic_bool finished;
	atomic_bool pause;
	uint32_t nr_threads;
	atomic_uint nr_paused;
	// The first errno of a write, which must never fail.
	atomic_int error;
	_Atomic uint32_t nr_calls;
	struct call calls[MAX_CALLS];
	uint32_t nr_targets;
	struct target targets[MAX_TARGETS];
	_Atomic uint64_t nr_records;
	struct record records[MAX_RECORDS];
};

static inline struct log *map_log(const char *path, bool create)
{
	int fd = open(path, O_RDWR | (create ? O_CREAT | O_EXCL : 0), 0600);

	if (fd < 0 || (create && ftruncate(fd, sizeof(struct log))))
		die_errno(path);
	struct log *log = mmap(NULL, sizeof(*log), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (log == MAP_FAILED)
		die_errno(path);
	close(fd);
	if (create) {
		log->magic = LOG_MAGIC;
		log->clock = 1;
	}
	if (log->magic != LOG_MAGIC)
		die("%s is not a log of stamper", path);
	return log;
}

static inline uint64_t tick(struct log *log)
{
	return atomic_fetch_add(&log->clock, 1);
}

static inline void make_stamp(uint64_t *words, uint32_t target, uint64_t sector, uint64_t seq)
{
	uint64_t x = (seq << 20 ^ sector) * 0x9e3779b97f4a7c15ULL + target, sum = 0;

	words[0] = STAMP_MAGIC + target;
	words[1] = sector;
	words[2] = seq;
	for (size_t i = 3; i < STAMP_WORDS - 1; i++)
		words[i] = x += 0x9e3779b97f4a7c15ULL;
	for (size_t i = 0; i < STAMP_WORDS - 1; i++)
		sum = (sum ^ words[i]) * 0x100000001b3ULL;
	words[STAMP_WORDS - 1] = sum;
}

// The sequence number of an undamaged stamp of this very sector; 0: it is none.
static inline uint64_t read_stamp(const uint64_t *words, uint32_t target, uint64_t sector)
{
	uint64_t whole[STAMP_WORDS];

	make_stamp(whole, target, sector, words[2]);
	return memcmp(whole, words, sizeof(whole)) ? 0 : words[2];
}

#endif
