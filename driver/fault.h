/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault points: each breaks one of the promises of docs/driver-contract.md on
 * purpose, so that it can be shown that a test notices (integration/selfcheck.ts).
 * They exist in a test build only (make FAULTS=1), where the module parameter
 * "fault" names the one that is switched on.
 */
#ifndef ESNAP_FAULT_H
#define ESNAP_FAULT_H

#ifdef ESNAP_FAULTS
#include <linux/string.h>

extern char *esnap_fault_name;

/* Is this fault point switched on?  Any context. */
#define esnap_fault(name) unlikely(!strcmp(esnap_fault_name, name))
#else
#define esnap_fault(name) false
#endif

#endif /* ESNAP_FAULT_H */
