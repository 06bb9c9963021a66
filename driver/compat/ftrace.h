/* SPDX-License-Identifier: GPL-2.0-only */
/* What a callback of ftrace gets, and how it redirects. */
#ifndef ESNAP_COMPAT_FTRACE_H
#define ESNAP_COMPAT_FTRACE_H

#include <linux/ftrace.h>

#if defined(HAVE_FTRACE_PT_REGS)
#define ftrace_regs pt_regs
/* Otherwise ftrace would not call us for a bio that is submitted under another tracer. */
#define ESNAP_FTRACE_FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION_SAFE)
#define esnap_ftrace_arg0(regs) regs_get_kernel_argument(regs, 0)
#define esnap_ftrace_set_ip(regs, ip) instruction_pointer_set(regs, ip)
#elif !defined(HAVE_FTRACE_REGS)
#error "no known form of: ftrace_regs, ftrace_pt_regs"
#elif defined(HAVE_FTRACE_REGS_SET_IP)
#define ESNAP_FTRACE_FLAGS 0
#define esnap_ftrace_arg0(fregs) ftrace_regs_get_argument(fregs, 0)
#define esnap_ftrace_set_ip(fregs, ip) \
	ftrace_regs_set_instruction_pointer(fregs, ip)
#elif defined(HAVE_FTRACE_IP_SET)
#define ESNAP_FTRACE_FLAGS FTRACE_OPS_FL_SAVE_REGS
#define esnap_ftrace_arg0(fregs) \
	regs_get_kernel_argument(ftrace_get_regs(fregs), 0)
#define esnap_ftrace_set_ip(fregs, ip) ftrace_instruction_pointer_set(fregs, ip)
#else
#error "no known form of: ftrace_regs_set_ip, ftrace_ip_set"
#endif

#endif /* ESNAP_COMPAT_FTRACE_H */
