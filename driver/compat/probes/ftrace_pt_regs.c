// SPDX-License-Identifier: GPL-2.0-only
/* Until d19ad0775dcd (5.11): ftrace callbacks get struct pt_regs, and bear recursion. */
#include <linux/module.h>
#include <linux/ftrace.h>

static void callback(unsigned long ip, unsigned long parent_ip,
		     struct ftrace_ops *ops, struct pt_regs *regs)
{
	if (regs_get_kernel_argument(regs, 0))
		instruction_pointer_set(regs, ip);
}

struct ftrace_ops probe = { .func = callback, .flags = FTRACE_OPS_FL_RECURSION_SAFE };
MODULE_LICENSE("GPL");
