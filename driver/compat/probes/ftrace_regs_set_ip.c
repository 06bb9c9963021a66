// SPDX-License-Identifier: GPL-2.0-only
/* 0ef86097f127 (6.3): ftrace_regs_get_argument(), ..._set_instruction_pointer(). */
#include <linux/module.h>
#include <linux/ftrace.h>

unsigned long probe(struct ftrace_regs *fregs);
unsigned long probe(struct ftrace_regs *fregs)
{
	ftrace_regs_set_instruction_pointer(fregs, 0);
	return ftrace_regs_get_argument(fregs, 0);
}
MODULE_LICENSE("GPL");
