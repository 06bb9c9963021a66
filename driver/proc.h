/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_PROC_H
#define ESNAP_PROC_H

/* /proc/elastio-snap-info.  May sleep. */
int esnap_proc_init(void);
void esnap_proc_exit(void);

#endif /* ESNAP_PROC_H */
