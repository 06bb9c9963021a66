/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As much of the kernel as the driver's parser of COW files needs in user space: one thread, plain memory, and allocations that
 * can be made to fail. Included before everything else; the headers that the driver includes from linux/ are empty (Makefile).
 */
#ifndef FUZZ_KERNEL_H
#define FUZZ_KERNEL_H

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../guest/siphash.h"

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;
typedef unsigned int blk_opf_t;
typedef unsigned int gfp_t;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the conversions below convert nothing");
#define cpu_to_le32(x) (x)
#define cpu_to_le64(x) (x)
#define le32_to_cpu(x) (x)
#define le64_to_cpu(x) (x)

#define PAGE_SIZE 4096UL
#define BITS_PER_LONG 64
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1

#define unlikely(x) (x)
#define lockdep_assert_held(lock) ((void)(lock))
#define cond_resched() ((void)0)
#define READ_ONCE(x) (x)
#define data_race(expression) (expression)
#define WRITE_ONCE(x, value) ((x) = (value))
#define smp_load_acquire(p) (*(p))
#define cmpxchg(p, old, new)                       \
	({                                         \
		__typeof__(*(p)) found_ = *(p);    \
		if (found_ == (old))               \
			*(p) = (new);              \
		found_;                            \
	})

#define min(a, b)                                  \
	({                                         \
		__typeof__(a) a_ = (a);            \
		__typeof__(b) b_ = (b);            \
		a_ < b_ ? a_ : b_;                 \
	})
#define min_t(type, a, b) min((type)(a), (type)(b))
#define clamp_t(type, value, low, high) \
	((type)(value) < (type)(low) ? (type)(low) : min_t(type, value, high))
#define DIV_ROUND_UP_ULL(n, d) (((n) + (d) - 1) / (d))
#define round_down(n, to) ((n) / (to) * (to))

/* --- errors in pointers ------------------------------------------------------ */

static inline void *ERR_PTR(long error)
{
	return (void *)error;
}

static inline long PTR_ERR(const void *pointer)
{
	return (long)pointer;
}

static inline bool IS_ERR(const void *pointer)
{
	return (unsigned long)pointer >= -4095UL;
}

/* --- memory ------------------------------------------------------------------ */

#define GFP_KERNEL 0
#define GFP_NOIO 1
#define __GFP_HIGH 1
#define __GFP_NORETRY 1
#define __GFP_NOWARN 1
#define __GFP_ZERO 2

/* Of those that may fail (GFP_NOIO) the one after so many does, once; 0: none. */
extern unsigned int fuzz_allocations_left;

static inline bool fuzz_fails(gfp_t gfp)
{
	return gfp != GFP_KERNEL && fuzz_allocations_left && !--fuzz_allocations_left;
}

static inline void *kmalloc(size_t size, gfp_t gfp)
{
	return fuzz_fails(gfp) ? NULL : malloc(size);
}

#define kfree free
#define kvfree free
#define kvcalloc(nr, size, gfp) calloc(nr, size)

struct page {
	u8 bytes[4096] __attribute__((aligned(4096)));
};

static inline struct page *alloc_page(gfp_t gfp)
{
	struct page *page;

	if (fuzz_fails(gfp))
		return NULL;
	page = aligned_alloc(PAGE_SIZE, sizeof(*page));
	if (!page)
		abort();
	/* What nobody has written is not zero by chance. */
	memset(page, gfp & __GFP_ZERO ? 0 : 0xA5, sizeof(*page));
	return page;
}

#define __free_page(page) free(page)
#define __get_free_page(gfp) ((unsigned long)alloc_page(gfp))
#define free_page(address) free((void *)(address))
#define page_address(page) ((void *)(page)->bytes)
#define kmap_local_page(page) page_address(page)
#define kunmap_local(address) ((void)(address))
#define clear_page(address) memset(address, 0, PAGE_SIZE)

/* --- bits -------------------------------------------------------------------- */

#define BITS_TO_LONGS(nr) (((nr) + BITS_PER_LONG - 1) / BITS_PER_LONG)

static inline bool test_bit(u64 nr, const unsigned long *bits)
{
	return bits[nr / BITS_PER_LONG] >> nr % BITS_PER_LONG & 1;
}

static inline bool test_and_set_bit(u64 nr, unsigned long *bits)
{
	bool old = test_bit(nr, bits);

	bits[nr / BITS_PER_LONG] |= 1UL << nr % BITS_PER_LONG;
	return old;
}

#define __test_and_set_bit test_and_set_bit
#define __set_bit(nr, bits) ((void)test_and_set_bit(nr, bits))
#define test_bit_le(nr, bits) test_bit(nr, bits)
#define __set_bit_le(nr, bits) __set_bit(nr, bits)

static inline u64 find_next_bit(const unsigned long *bits, u64 end, u64 from)
{
	while (from < end && !test_bit(from, bits))
		from++;
	return min(from, end);
}

static inline u64 find_next_zero_bit(const unsigned long *bits, u64 end, u64 from)
{
	while (from < end && test_bit(from, bits))
		from++;
	return min(from, end);
}

/* --- one thread --------------------------------------------------------------- */

#define __rcu
struct rcu_head { char none; };
struct bio_set { char none; };
struct bio;
struct completion { char none; };
struct esnap_target { char none; };
typedef struct { char none; } wait_queue_head_t;
typedef struct { int value; } atomic_t;
typedef struct { long long value; } atomic64_t;
struct mutex { bool held; };

#define atomic64_set(a, v) ((a)->value = (v))
#define atomic64_inc(a) ((a)->value++)
#define atomic64_read(a) ((a)->value)

#define mutex_init(m) ((m)->held = false)

static inline void mutex_lock(struct mutex *m)
{
	if (m->held)
		abort();
	m->held = true;
}

static inline void mutex_unlock(struct mutex *m)
{
	if (!m->held)
		abort();
	m->held = false;
}

#define rcu_dereference(p) (p)

/* --- lists --------------------------------------------------------------------- */

struct list_head {
	struct list_head *next, *prev;
};

#define LIST_HEAD(name) struct list_head name = { &name, &name }
#define INIT_LIST_HEAD(head) ((head)->next = (head)->prev = (head))

static inline void list_add_tail(struct list_head *entry, struct list_head *head)
{
	entry->prev = head->prev;
	entry->next = head;
	head->prev->next = entry;
	head->prev = entry;
}

static inline void list_del(struct list_head *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
}

static inline void list_move_tail(struct list_head *entry, struct list_head *head)
{
	list_del(entry);
	list_add_tail(entry, head);
}

/* All of @list to the front of @head. */
static inline void list_splice(struct list_head *list, struct list_head *head)
{
	while (list->prev != list)
		list_move_tail(list->prev, head->next);
}

#define list_entry(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))
#define list_for_each_entry_safe(entry, after, head, member)                                        \
	for (entry = list_entry((head)->next, __typeof__(*entry), member),                          \
	    after = list_entry(entry->member.next, __typeof__(*entry), member);                     \
	     &entry->member != (head);                                                              \
	     entry = after, after = list_entry(entry->member.next, __typeof__(*entry), member))

/* --- xarray: a table is enough ---------------------------------------------------- */

struct xarray {
	void **slots;
	u64 nr;
};

static inline void xa_init(struct xarray *xa)
{
	xa->slots = NULL;
	xa->nr = 0;
}

static inline void *xa_load(const struct xarray *xa, u64 i)
{
	return i < xa->nr ? xa->slots[i] : NULL;
}

static inline void *xa_store(struct xarray *xa, u64 i, void *entry, gfp_t gfp)
{
	if (fuzz_fails(gfp))
		return ERR_PTR(-ENOMEM);
	if (i >= xa->nr) {
		xa->slots = realloc(xa->slots, (i + 1) * sizeof(*xa->slots));
		if (!xa->slots)
			abort();
		memset(xa->slots + xa->nr, 0, (i + 1 - xa->nr) * sizeof(*xa->slots));
		xa->nr = i + 1;
	}
	xa->slots[i] = entry;
	return NULL;
}

#define xa_err(entry) (IS_ERR(entry) ? PTR_ERR(entry) : 0)
#define xa_erase(xa, i) ((xa)->slots[i] = NULL)

static inline void xa_destroy(struct xarray *xa)
{
	free(xa->slots);
	xa_init(xa);
}

/* --- the rest ----------------------------------------------------------------------- */

struct file;
ssize_t kernel_write(struct file *file, const void *data, size_t length, loff_t *pos);

typedef struct {
	u64 key[2];
} siphash_key_t;

static inline u64 siphash(const void *data, size_t length, const siphash_key_t *key)
{
	return siphash_2_4(data, length, key->key[0], key->key[1]);
}

#endif /* FUZZ_KERNEL_H */
