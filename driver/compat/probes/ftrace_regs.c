// SPDX-License-Identifier: GPL-2.0-only
/* d19ad0775dcd (5.11): ftrace callbacks get struct ftrace_regs. */
#include <linux/module.h>
#include <linux/ftrace.h>

static void callback(unsigned long ip, unsigned long parent_ip,
		     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
}

struct ftrace_ops probe = { .func = callback };
MODULE_LICENSE("GPL");
