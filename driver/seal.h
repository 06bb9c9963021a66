/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_SEAL_H
#define ESNAP_SEAL_H

#include "epoch.h"

/*
 * Sealing makes a COW file complete on disk, so that its tracker can be taken up
 * again after the filesystem, the module or the machine was gone.
 *
 * While it is being closed every write that would be a new change is held, so
 * that the index stays what was written.  Then the header says clean; the first
 * new change after that is held until the header says otherwise on disk.
 */

/*
 * Writes out what is saved, the index and the header.  The epoch is CLOSING when
 * it returns 0; esnap_seal_done() ends that.  Otherwise it has failed, now or
 * before.  The origin is there.  Sleeps.
 */
int esnap_seal(struct esnap_epoch *ep);

/* What was held may go, each by its own rule. */
void esnap_seal_done(struct esnap_epoch *ep, enum esnap_seal seal);

/*
 * A change of a clean epoch is at hand that it will record, or will not: makes the
 * header say that it is not complete.  When the origin is not ours it goes to
 * @target, whose sector @base is the origin's first; the caller keeps that alive.
 * -EAGAIN: it is being closed again, and the change must wait for that; -EIO: what
 * is there is not its header.  Sleeps.
 */
int esnap_seal_break(struct esnap_epoch *ep, struct esnap_target target, u64 base);

/*
 * Reads the raw header of a COW file that was found again, without changing
 * anything; the store is aimed, and its map set.
 */
int esnap_seal_read(struct esnap_epoch *ep, struct esnap_raw_header *header);

/* Is the header on disk still the one that was written last? */
int esnap_seal_check(struct esnap_epoch *ep);

/* The header that was read says that the file is in use, and the epoch is OPEN. */
int esnap_seal_open(struct esnap_epoch *ep);

#endif /* ESNAP_SEAL_H */
