/* SPDX-License-Identifier: GPL-2.0-only */
/* Mapped devices, seen from outside of dm-mod. */
#ifndef ESNAP_COMPAT_DM_H
#define ESNAP_COMPAT_DM_H

#include <linux/device-mapper.h>

/*
 * dm-mod exports these without a header; 5.10 to 7.3 have them.  They are looked
 * up by name when they are used, and where they are gone nothing is suspended.
 */
void dm_internal_suspend_fast(struct mapped_device *md);
void dm_internal_resume_fast(struct mapped_device *md);

#endif /* ESNAP_COMPAT_DM_H */
