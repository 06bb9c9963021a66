/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef ESNAP_HOOK_H
#define ESNAP_HOOK_H

/*
 * The hooks are in place while somebody has them.  -EBUSY: another module (a
 * live patch, say) redirects the same functions; -ENODEV: ftrace has shut itself
 * down.  Outer lock; sleeps.
 */
int esnap_hook_get(void);
void esnap_hook_put(void);

/* A frame of ours in the kernel's code: counted from before it begins until its end. */
void esnap_hook_begin_frame(void);
void esnap_hook_end_frame(void);

/*
 * Waits until no frame of ours is on any stack; for ever, if a hook could not be
 * taken away.  Sleeps.
 */
void esnap_hook_wait_frames(void);

#endif /* ESNAP_HOOK_H */
