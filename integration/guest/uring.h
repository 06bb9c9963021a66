/* SPDX-License-Identifier: Apache-2.0 */
// As much of io_uring as a writer needs: some writes are queued, submitted together and waited for.
#ifndef URING_H
#define URING_H

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "guest.h"

struct uring {
	int fd;
	uint32_t nr_queued;
	uint32_t sq_mask, cq_mask;
	atomic_uint *sq_tail, *cq_head, *cq_tail;
	uint32_t *sq_array;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static inline void *uring_map(int fd, size_t size, off_t offset)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	if (at == MAP_FAILED)
		die_errno("io_uring");
	return at;
}

static inline void uring_init(struct uring *ring, uint32_t nr_entries)
{
	struct io_uring_params p = { 0 };
	char *sq, *cq;

	ring->fd = syscall(SYS_io_uring_setup, nr_entries, &p);
	if (ring->fd < 0)
		die_errno("io_uring");
	sq = uring_map(ring->fd, p.sq_off.array + p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
	cq = uring_map(ring->fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring->sqes = uring_map(ring->fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring->nr_queued = 0;
	ring->sq_tail = (void *)(sq + p.sq_off.tail);
	ring->sq_mask = *(uint32_t *)(sq + p.sq_off.ring_mask);
	ring->sq_array = (void *)(sq + p.sq_off.array);
	ring->cq_head = (void *)(cq + p.cq_off.head);
	ring->cq_tail = (void *)(cq + p.cq_off.tail);
	ring->cq_mask = *(uint32_t *)(cq + p.cq_off.ring_mask);
	ring->cqes = (void *)(cq + p.cq_off.cqes);
}

static inline void uring_queue_write(struct uring *ring, int fd, const void *data, uint32_t size, uint64_t at, uint64_t id)
{
	uint32_t tail = *ring->sq_tail, i = tail & ring->sq_mask;

	ring->sqes[i] = (struct io_uring_sqe){
		.opcode = IORING_OP_WRITE, .fd = fd, .addr = (uintptr_t)data, .len = size, .off = at, .user_data = id,
	};
	ring->sq_array[i] = i;
	*ring->sq_tail = tail + 1;
	ring->nr_queued++;
}

// Submits what is queued and returns when all of it has ended: `ended` gets each one's id and its result.
static inline void uring_write_all(struct uring *ring, void (*ended)(void *context, uint64_t id, int32_t result), void *context)
{
	uint32_t nr_left = ring->nr_queued;

	while (nr_left) {
		int submitted = syscall(SYS_io_uring_enter, ring->fd, ring->nr_queued, 1, IORING_ENTER_GETEVENTS, NULL, 0);

		if (submitted < 0 && errno != EINTR)
			die_errno("io_uring");
		if (submitted > 0)
			ring->nr_queued -= submitted;
		for (uint32_t head = *ring->cq_head; head != *ring->cq_tail; nr_left--) {
			const struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];

			ended(context, cqe->user_data, cqe->res);
			*ring->cq_head = ++head;
		}
	}
}

#endif
