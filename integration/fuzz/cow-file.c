// SPDX-License-Identifier: GPL-2.0-only
// cow-file COUNT SEED: the driver's parser of COW files (driver/header.c, driver/index.c), built for user space under ASan and
// UBSan. COUNT times a COW file is made by the driver's own code, damaged, and read again; memory runs out and I/O fails now
// and then. Fails when something undefined is done, when a file as it was written is not read as it was, or when a damaged one
// is taken with entries that lead out of it. Prints how often what happened as JSON.
#include "header.h"
#include "index.h"
#include "../guest/random.h"

enum {
	MAX_SECTIONS = 3,
	MAX_DATA_BLOCKS = 64,
	MAX_BLOCKS = MAX_SECTIONS * ELASTIO_SNAP_SECTION_ENTRIES + 1,
};

struct totals {
	unsigned long intact, taken, refused, no_memory, io_error;
};

/* A COW file without its data blocks: header and index. */
struct file_image {
	u8 header[PAGE_SIZE] __attribute__((aligned(4096)));
	u8 index[MAX_SECTIONS * ELASTIO_SNAP_SECTION_SIZE];
};

/* What a tracker knows. */
struct content {
	u64 nr_sectors;
	bool mapping;
	u64 end;
	/* For each block: 0, ELASTIO_SNAP_ENTRY_CHANGED, or where its old content is. */
	u64 entries[MAX_BLOCKS];
};

unsigned int fuzz_allocations_left;
int esnap_debug_level;

static struct file_image disk;
static u64 disk_sections;
/* Of the transfers the one after so many fails, once; 0: none. */
static unsigned int transfers_left;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

// --- the store: memory ------------------------------------------------------------------------------------------------------

void esnap_sync_sio_init(struct esnap_sync_sio *sync)
{
	sync->sio.error = 0;
}

int esnap_sync_sio_wait(struct esnap_sync_sio *sync)
{
	return sync->sio.error;
}

void esnap_transfer_start(struct esnap_transfer *x, struct esnap_store *st, blk_opf_t op, struct esnap_sio *sio)
{
	*x = (struct esnap_transfer){ .st = st, .sio = sio, .op = op };
	if (transfers_left && !--transfers_left)
		sio->error = -EIO;
}

void esnap_transfer_add(struct esnap_transfer *x, u64 cow_block, struct page *page)
{
	u8 *bytes = disk.index + (cow_block - 1) * PAGE_SIZE;

	if (cow_block < 1 || cow_block >= esnap_first_data_block(disk_sections))
		fail("something beside the index is read or written");
	if (x->sio->error)
		return;
	if (x->op == REQ_OP_WRITE)
		memcpy(bytes, page_address(page), PAGE_SIZE);
	else
		memcpy(page_address(page), bytes, PAGE_SIZE);
}

void esnap_transfer_finish(struct esnap_transfer *x)
{
	(void)x;
}

void esnap_store_free_page(struct page *page)
{
	__free_page(page);
}

int esnap_store_rw_block(struct esnap_store *st, blk_opf_t op, u64 cow_block, struct page *page)
{
	struct esnap_sync_sio sync;
	struct esnap_transfer x;

	esnap_sync_sio_init(&sync);
	esnap_transfer_start(&x, st, op, &sync.sio);
	esnap_transfer_add(&x, cow_block, page);
	esnap_transfer_finish(&x);
	return esnap_sync_sio_wait(&sync);
}

ssize_t kernel_write(struct file *file, const void *data, size_t length, loff_t *pos)
{
	(void)file, (void)data, (void)length, (void)pos;
	fail("nothing here writes through the VFS");
}

// --- what a tracker knows ---------------------------------------------------------------------------------------------------

static u64 nr_blocks_of(const struct content *c)
{
	return DIV_ROUND_UP_ULL(c->nr_sectors, ELASTIO_SNAP_BLOCK_SECTORS);
}

static void make_index(struct esnap_index *idx, const struct content *c)
{
	static struct esnap_store store;

	if (esnap_index_init(idx, c->nr_sectors, below(4) * ELASTIO_SNAP_SECTION_SIZE, &store))
		fail("an allocation that cannot fail did");
}

static void mark(struct esnap_index *idx, struct esnap_bitmap *bm, u64 block)
{
	if (esnap_bitmap_prepare(bm, block, block, ESNAP_BITMAP_GFP))
		fail("an allocation that cannot fail did");
	esnap_index_mark(idx, bm, block, block);
}

/* An origin of any size up to three sections, and a few runs of blocks that changed. */
static void invent(struct content *c)
{
	const u64 section_sectors = ELASTIO_SNAP_SECTION_ENTRIES * ELASTIO_SNAP_BLOCK_SECTORS;
	u64 nr_blocks, first, nr, block;

	memset(c, 0, sizeof(*c));
	c->nr_sectors = 1 + below((MAX_BLOCKS - 1) * ELASTIO_SNAP_BLOCK_SECTORS);
	if (below(2))
		c->nr_sectors = (1 + below(MAX_SECTIONS)) * section_sectors - below(9) + 4;
	if (c->nr_sectors < ELASTIO_SNAP_BLOCK_SECTORS)
		c->nr_sectors = ELASTIO_SNAP_BLOCK_SECTORS;
	c->nr_sectors = min(c->nr_sectors, (u64)(MAX_BLOCKS - 1) * ELASTIO_SNAP_BLOCK_SECTORS + 1);
	c->mapping = below(2);
	nr_blocks = nr_blocks_of(c);
	c->end = esnap_first_data_block(esnap_index_sections(c->nr_sectors));
	for (u64 runs = below(6); runs; runs--) {
		first = below(3) ? below(nr_blocks) : nr_blocks - 1;
		nr = min(1 + below(MAX_DATA_BLOCKS / 4), nr_blocks - first);
		for (block = first; block < first + nr; block++)
			if (!c->entries[block])
				c->entries[block] = c->mapping && below(4) ? c->end++ : ELASTIO_SNAP_ENTRY_CHANGED;
	}
}

static void fill(struct esnap_index *idx, const struct content *c)
{
	for (u64 block = 0; block < nr_blocks_of(c); block++) {
		u64 entry = c->entries[block];

		if (!entry)
			continue;
		if (c->mapping && entry == ELASTIO_SNAP_ENTRY_CHANGED) {
			mark(idx, &idx->changes.window, block);
			continue;
		}
		mark(idx, &idx->changes.changed, block);
		if (c->mapping && esnap_index_map(idx, block, 1, entry))
			fail("a mapping that cannot fail did");
	}
}

/* Does the index know what @c says? */
static void compare(struct esnap_index *idx, const struct content *c)
{
	u64 nr_changed = 0;

	for (u64 block = 0; block < nr_blocks_of(c); block++) {
		u64 entry = c->entries[block], found;

		nr_changed += entry != 0;
		if (esnap_changes_test(&idx->changes, block) != !!entry)
			fail("a change was lost, or invented");
		if (!c->mapping || entry <= ELASTIO_SNAP_ENTRY_CHANGED)
			continue;
		if (!esnap_bitmap_test(&idx->changes.changed, block))
			fail("what was saved is no longer");
		if (esnap_index_lookup(idx, block, &found) || found != entry)
			fail("old content is not where it was");
	}
	if (nr_changed != (u64)atomic64_read(&idx->nr_changed))
		fail("the number of changes is wrong");
}

/* Does all that was taken from a damaged file lead somewhere? */
static void check_bounds(struct esnap_index *idx, const struct content *c, u64 end)
{
	u64 last = idx->changes.nr_blocks - 1;
	u64 first_data = esnap_first_data_block(idx->nr_sections);
	u64 nr_changed = 0, block, found;

	for (block = esnap_changes_next(&idx->changes, 0, last); block <= last;
	     block = esnap_changes_next(&idx->changes, block + 1, last)) {
		nr_changed++;
		if (!c->mapping || !esnap_bitmap_test(&idx->changes.changed, block))
			continue;
		if (esnap_index_lookup(idx, block, &found))
			fail("a lookup that cannot fail did");
		if (found < first_data || found >= end)
			fail("an entry leads out of the COW file");
	}
	if (nr_changed != (u64)atomic64_read(&idx->nr_changed))
		fail("the number of changes is wrong");
}

// --- closing and taking up --------------------------------------------------------------------------------------------------

/* As the driver does it (seal.c): the index, then the header that describes it. */
static int write_file(struct esnap_index *idx, const struct content *c)
{
	struct esnap_raw_header h = {
		.common = { .flags = ELASTIO_SNAP_COW_CLEAN | (c->mapping ? 0 : ELASTIO_SNAP_COW_INDEX_ONLY),
			    .next_block = c->end,
			    .size = (c->end + below(16)) * ELASTIO_SNAP_BLOCK_SIZE, .seqid = 1 + below(9) },
		.origin_sectors = c->nr_sectors,
		.nr_extents = 1 + below(5),
	};
	int err;

	for (size_t i = 0; i < sizeof(h.common.uuid); i++)
		h.common.uuid[i] = below(256);
	h.common.nr_changed = atomic64_read(&idx->nr_changed);
	err = esnap_index_save(idx, c->mapping, esnap_header_groups(disk.header), &h.tail_entry);
	if (!err)
		esnap_header_encode_raw(&h, idx->nr_sections, disk.header);
	return err;
}

/* As the driver does it (activate.c, after the checks of the header that are not the parser's). */
static int read_file(struct esnap_index *idx, const struct content *c, struct esnap_raw_header *h)
{
	int err = esnap_header_decode_raw(disk.header, idx->nr_sections, h);

	if (err)
		return err;
	return esnap_index_load(idx, c->mapping, esnap_header_groups(disk.header), h->tail_entry, h->common.next_block);
}

// Numbers that are at the edge of something.
static u64 odd_number(const struct content *c)
{
	u64 edges[] = { 0, 1, 2, c->end - 1, c->end, c->end + 1, 1ULL << 31, 1ULL << 32, 1ULL << 52, 1ULL << 63, ~0ULL,
			random64() };

	return edges[below(sizeof(edges) / sizeof(edges[0]))];
}

/* Returns what kind of damage was done; a header keeps its checksum when a liar wrote it. */
static void damage(const struct content *c, u64 *end)
{
	struct esnap_raw_header h;
	u64 nr_sections = disk_sections, n;

	for (n = below(4); n; n--)
		memcpy(disk.index + below(nr_sections * ELASTIO_SNAP_SECTION_ENTRIES) * 8, &(u64){ odd_number(c) }, 8);
	if (below(4) == 0) {
		disk.header[below(PAGE_SIZE)] ^= 1 << below(8);
		return;
	}
	if (esnap_header_decode_raw(disk.header, nr_sections, &h))
		fail("a header that was just made is refused");
	if (below(2))
		h.tail_entry = odd_number(c);
	if (below(4) == 0)
		h.common.next_block = odd_number(c);
	if (below(4) == 0)
		disk.header[ELASTIO_SNAP_COW_GROUPS_OFFSET + below(PAGE_SIZE - ELASTIO_SNAP_COW_GROUPS_OFFSET)] = below(256);
	esnap_header_encode_raw(&h, nr_sections, disk.header);
	*end = h.common.next_block;
}

static void count(struct totals *totals, int err)
{
	switch (err) {
	case 0:
		totals->taken++;
		break;
	case -EINVAL:
		totals->refused++;
		break;
	case -ENOMEM:
		totals->no_memory++;
		break;
	case -EIO:
		totals->io_error++;
		break;
	default:
		fail("an error that nobody promises");
	}
}

static void one_file(struct totals *totals)
{
	static struct content c;
	struct esnap_raw_header h;
	struct esnap_index idx;
	bool intact = below(4) == 0;
	u64 end;
	int err;

	invent(&c);
	end = c.end;
	disk_sections = esnap_index_sections(c.nr_sectors);
	/* What the driver does not write it must not read. */
	memset(&disk, 0xA5, sizeof(disk));
	make_index(&idx, &c);
	fill(&idx, &c);
	if (write_file(&idx, &c))
		fail("a write that cannot fail did");
	esnap_index_free(&idx);

	if (!intact) {
		damage(&c, &end);
		fuzz_allocations_left = below(2) ? 0 : 1 + below(72);
		transfers_left = below(8) ? 0 : 1 + below(4);
	}
	make_index(&idx, &c);
	err = read_file(&idx, &c, &h);
	fuzz_allocations_left = 0;
	transfers_left = 0;
	if (intact) {
		if (err)
			fail("what the driver wrote it does not read");
		compare(&idx, &c);
		totals->intact++;
	} else {
		count(totals, err);
		if (!err)
			check_bounds(&idx, &c, h.common.next_block);
	}
	esnap_index_free(&idx);
}

int main(int argc, char **argv)
{
	struct totals totals = { 0 };
	unsigned long count;

	if (argc != 3) {
		fprintf(stderr, "usage: cow-file COUNT SEED\n");
		return 2;
	}
	count = strtoul(argv[1], NULL, 0);
	seed_random(strtoull(argv[2], NULL, 0));
	for (unsigned long i = 0; i < count; i++)
		one_file(&totals);
	printf("{\"intact\": %lu, \"taken\": %lu, \"refused\": %lu, \"no_memory\": %lu, \"io_error\": %lu}\n", totals.intact,
	       totals.taken, totals.refused, totals.no_memory, totals.io_error);
	return 0;
}
