/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_HIBERNATE_H
#define ESNAP_HIBERNATE_H

#include <linux/types.h>

int esnap_hibernate_init(void);
void esnap_hibernate_exit(void);

/* No tracker may begin now: it could not last.  Outer lock. */
bool esnap_is_hibernating(void);

#endif /* ESNAP_HIBERNATE_H */
