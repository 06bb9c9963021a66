/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_CTL_H
#define ESNAP_CTL_H

/* /dev/elastio-snap-ctl.  May sleep. */
int esnap_ctl_init(void);
void esnap_ctl_exit(void);

#endif /* ESNAP_CTL_H */
