/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault points: each breaks one of the promises of docs/driver-contract.md on
 * purpose, so that it can be shown that the tests would notice.  They exist in a
 * test build only (make FAULTS=1), where the module parameter "fault" names the
 * one that is switched on.
 */
#ifndef ESNAP_FAULT_H
#define ESNAP_FAULT_H

#define ESNAP_FAULT_POINTS(point)							\
	/* A write is let go before what it overwrites is saved. */			\
	point(skip_save)								\
	/* The first block of a write is not marked as changed. */			\
	point(drop_bit)									\
	/* A snapshot begins before its filesystem is frozen. */			\
	point(publish_early)								\
	/* What had passed before a snapshot began may land after it. */		\
	point(no_drain)									\
	/* What goes to the store lands one sector too far. */				\
	point(beside_store)								\
	/* Who writes to the store is not noticed. */					\
	point(store_unguarded)								\
	/* The COW file can be cut, and its blocks given to others. */			\
	point(no_pin)									\
	/* What an image read found on the origin is not looked at again. */		\
	point(no_second_look)								\
	/* A held write is ended without being submitted. */				\
	point(lose_bio)									\
	/* A write that comes by another device of the same disk is not seen. */	\
	point(miss_alias)								\
	/* A discard is no change. */							\
	point(pass_discard)								\
	/* Memory for what is saved has no limit. */					\
	point(no_limit)									\
	/* A COW file goes on to say that it is complete after a change. */		\
	point(leave_clean)								\
	/* The last page of a part of the index is not written. */			\
	point(lose_index_page)								\
	/* Nobody looks whether the filesystem was mounted without us. */		\
	point(no_fingerprint)								\
	/* The module goes although one of its frames will still return. */		\
	point(forget_frame)

enum esnap_fault_point {
	ESNAP_FAULT_none,
#define ESNAP_FAULT_POINT(name) ESNAP_FAULT_##name,
	ESNAP_FAULT_POINTS(ESNAP_FAULT_POINT)
#undef ESNAP_FAULT_POINT
};

#ifdef ESNAP_FAULTS
extern int esnap_fault_on;

/* Is the fault point of this name switched on?  Any context. */
#define esnap_fault(name) unlikely(READ_ONCE(esnap_fault_on) == ESNAP_FAULT_##name)
#else
#define esnap_fault(name) false
#endif

#endif /* ESNAP_FAULT_H */
