// SPDX-License-Identifier: Apache-2.0
// stampcheck image LOG CALL IMAGE: is the image what the origin was at one instant between begin and end of the call?
// stampcheck origin LOG DEVICE: after stamper stop: does every sector hold the last write?
// stampcheck changed LOG FROM TO COW ORIGIN_BYTES: has every block of the stamped files that was written between the ends of
//   the two calls its entry in the COW file that ended with TO, and none of them another?
#include <stdarg.h>

#include "cow.h"
#include "stamp.h"

static struct log *the_log;
static uint64_t nr_records;
static uint64_t nr_complaints;

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list arguments;

	if (nr_complaints++ >= 10)
		return;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static struct call find_call(const char *name)
{
	for (uint32_t i = 0; i < the_log->nr_calls; i++)
		if (!strcmp(the_log->calls[i].name, name))
			return the_log->calls[i];
	die("the log has no call \"%s\"", name);
}

// --- images ------------------------------------------------------------------------------------------------------------

// The sequence number of each sector of a target in an image.
static uint64_t *read_target(uint32_t index, const char *path)
{
	const struct target *target = &the_log->targets[index];
	uint64_t *seqs = allocate(target->nr_sectors * sizeof(*seqs));
	enum { CHUNK_SECTORS = 2048 };
	uint64_t *chunk = allocate(CHUNK_SECTORS * SECTOR);
	int fd = open_for_reading(path);

	for (uint32_t i = 0; i < target->nr_extents; i++) {
		const struct extent *e = &target->extents[i];

		for (uint64_t at = 0; at < e->nr_sectors; at += CHUNK_SECTORS) {
			uint64_t nr = e->nr_sectors - at;

			if (nr > CHUNK_SECTORS)
				nr = CHUNK_SECTORS;
			read_all(fd, path, chunk, nr * SECTOR, (e->disk_sector + at) * SECTOR);
			for (uint64_t j = 0; j < nr; j++) {
				uint64_t sector = e->file_sector + at + j;

				if (sector < target->nr_sectors)
					seqs[sector] =
						read_stamp(chunk + j * STAMP_WORDS, index, sector);
			}
		}
	}
	free(chunk);
	close(fd);
	return seqs;
}

static void check_newest(const struct record *r, const uint64_t *seqs, const unsigned char *torn)
{
	for (uint32_t i = 0; i < r->nr_sectors; i++)
		if (seqs[r->sector + i] < r->seq && !torn[r->sector + i])
			complain("file %u sector %" PRIu64 ": write %" PRIu64 " ended before, but "
				 "the image has %" PRIu64,
				 r->target, r->sector + i, r->seq, seqs[r->sector + i]);
}

// A write of which any sector is in the image is there as a whole.
static void check_whole(const struct record *r, const uint64_t *seqs)
{
	bool any = false;

	for (uint32_t i = 0; i < r->nr_sectors; i++)
		any |= seqs[r->sector + i] == r->seq;
	for (uint32_t i = 0; any && i < r->nr_sectors; i++)
		if (seqs[r->sector + i] < r->seq)
			complain("file %u: write %" PRIu64 " is only partly in the image (sector "
				 "%" PRIu64 " has %" PRIu64 ")",
				 r->target, r->seq, r->sector + i, seqs[r->sector + i]);
}

// Marks the sectors whose content really came from a write of this log.
static void claim(const struct record *r, const uint64_t *seqs, unsigned char *claimed)
{
	for (uint32_t i = 0; i < r->nr_sectors; i++)
		if (seqs[r->sector + i] == r->seq)
			claimed[r->sector + i] = 1;
}

// A store that was under way at the instant may have left the pieces of two stamps: neither of them is missed there.
static void excuse(const struct record *r, struct call c, const uint64_t *seqs, unsigned char *torn)
{
	if (r->seq <= c.end && r->done >= c.begin)
		for (uint32_t i = 0; i < r->nr_sectors; i++)
			if (!seqs[r->sector + i])
				torn[r->sector + i] = 1;
}

static int check_image(struct call call, const char *path)
{
	uint64_t *seqs[MAX_TARGETS], newest = 0, nr_sectors = 0;
	unsigned char *claimed[MAX_TARGETS], *torn[MAX_TARGETS];

	for (uint32_t t = 0; t < the_log->nr_targets; t++) {
		seqs[t] = read_target(t, path);
		claimed[t] = allocate(the_log->targets[t].nr_sectors);
		torn[t] = allocate(the_log->targets[t].nr_sectors);
		nr_sectors += the_log->targets[t].nr_sectors;
		for (uint64_t i = 0; i < the_log->targets[t].nr_sectors; i++)
			if (seqs[t][i] > newest)
				newest = seqs[t][i];
	}
	if (newest > call.end)
		complain("write %" PRIu64 " was submitted after the call had ended at %" PRIu64, newest,
			 call.end);
	// The instant is after the submission of whatever is in the image, and not before the call.
	uint64_t instant = newest > call.begin ? newest : call.begin;

	for (uint64_t i = 0; i < nr_records; i++) {
		const struct record *r = &the_log->records[i];

		claim(r, seqs[r->target], claimed[r->target]);
		if (the_log->targets[r->target].torn_writes)
			excuse(r, call, seqs[r->target], torn[r->target]);
	}
	for (uint64_t i = 0; i < nr_records; i++) {
		const struct record *r = &the_log->records[i];

		if (r->done < instant)
			check_newest(r, seqs[r->target], torn[r->target]);
		if (the_log->targets[r->target].whole_writes)
			check_whole(r, seqs[r->target]);
	}
	for (uint32_t t = 0; t < the_log->nr_targets; t++)
		for (uint64_t i = 0; i < the_log->targets[t].nr_sectors; i++)
			if (!claimed[t][i] && !torn[t][i])
				complain("file %u sector %" PRIu64 ": %s", t, i,
					 seqs[t][i] ? "nobody wrote what is there" : "no stamp, or a damaged one");
	printf("%" PRIu64 " sectors, newest write %" PRIu64 ", %" PRIu64 " wrong\n", nr_sectors, newest,
	       nr_complaints);
	return nr_complaints != 0;
}

// --- changed blocks ----------------------------------------------------------------------------------------------------

enum { MUST = 1, MAY = 2, STAMPED = 4 };

// Sets a bit for each block of the origin that some sectors of a target lie in; STAMPED only for blocks that the target
// has for itself.
static void mark(unsigned char *blocks, uint32_t index, uint64_t sector, uint64_t nr, unsigned char bit)
{
	const struct target *target = &the_log->targets[index];

	for (uint32_t i = 0; i < target->nr_extents && nr; i++) {
		const struct extent *e = &target->extents[i];

		if (sector >= e->file_sector + e->nr_sectors)
			continue;
		uint64_t part = e->file_sector + e->nr_sectors - sector;

		if (part > nr)
			part = nr;
		uint64_t first = e->disk_sector + sector - e->file_sector, end = first + part;

		if (bit == STAMPED) {
			first += BLOCK_SECTORS - 1;
			end -= end % BLOCK_SECTORS;
		}
		for (uint64_t b = first / BLOCK_SECTORS; b * BLOCK_SECTORS < end; b++)
			blocks[b] |= bit;
		sector += part;
		nr -= part;
	}
}

// Of mapped memory whole pages are written out, which need not begin with a block of the origin where the filesystem's own
// blocks are smaller.
static void mark_possible(unsigned char *blocks, const struct record *r)
{
	uint64_t first = r->sector, end = first + r->nr_sectors;

	if (the_log->targets[r->target].torn_writes) {
		uint64_t page = sysconf(_SC_PAGESIZE) / SECTOR;

		first -= first % page;
		end = (end + page - 1) / page * page;
	}
	mark(blocks, r->target, first, end - first, MAY);
}

static int check_changed(struct call from, struct call to, const char *path, uint64_t nr_sectors)
{
	struct cow cow = read_cow(path, nr_sectors);
	unsigned char *blocks = allocate(cow.nr_blocks);
	uint64_t nr_must = 0, nr_may = 0, nr_entries = 0;

	for (uint32_t t = 0; t < the_log->nr_targets; t++)
		mark(blocks, t, 0, the_log->targets[t].nr_sectors, STAMPED);
	for (uint64_t i = 0; i < nr_records; i++) {
		const struct record *r = &the_log->records[i];

		if (r->seq > from.end && r->done < to.begin)
			mark(blocks, r->target, r->sector, r->nr_sectors, MUST);
		if (r->done > from.begin && r->seq < to.end)
			mark_possible(blocks, r);
	}
	for (uint64_t b = 0; b < cow.nr_blocks; b++) {
		nr_must += (blocks[b] & MUST) != 0;
		nr_may += (blocks[b] & MAY) != 0;
		if ((blocks[b] & MUST) && !cow.entries[b])
			complain("block %" PRIu64 " was written and has no entry", b);
		if (!(blocks[b] & STAMPED))
			continue;
		nr_entries += cow.entries[b] != 0;
		if (cow.entries[b] && !(blocks[b] & MAY))
			complain("block %" PRIu64 " has the entry %" PRIu64 " and was not written", b,
				 cow.entries[b]);
	}
	printf("%" PRIu64 " entries, at least %" PRIu64 " and at most %" PRIu64 " expected, "
	       "%" PRIu64 " wrong\n",
	       nr_entries, nr_must, nr_may, nr_complaints);
	return nr_complaints != 0 || !nr_must;
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[1] : "";

	if (argc > 2) {
		the_log = map_log(argv[2], false);
		nr_records = the_log->nr_records;
		if (the_log->error)
			die("a write to the origin failed: %s", strerrorname_np(the_log->error));
	}
	if (!strcmp(command, "image") && argc == 5)
		return check_image(find_call(argv[3]), argv[4]);
	if (!strcmp(command, "origin") && argc == 4) {
		uint64_t now = the_log->clock;

		return check_image((struct call){ .begin = now, .end = now }, argv[3]);
	}
	if (!strcmp(command, "changed") && argc == 7)
		return check_changed(find_call(argv[3]), find_call(argv[4]), argv[5],
				     number(argv[6]) / SECTOR);
	die("usage: stampcheck image LOG CALL IMAGE | origin LOG DEVICE | "
	    "changed LOG FROM TO COW ORIGIN_BYTES");
}
