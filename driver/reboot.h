/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_REBOOT_H
#define ESNAP_REBOOT_H

int esnap_reboot_init(void);
void esnap_reboot_exit(void);

#endif /* ESNAP_REBOOT_H */
