// SPDX-License-Identifier: GPL-2.0-only
/* 2860cd8a2353 (5.11): ftrace_instruction_pointer_set(), until 6.2. */
#include <linux/module.h>
#include <linux/ftrace.h>

void probe(struct ftrace_regs *fregs);
void probe(struct ftrace_regs *fregs)
{
	ftrace_instruction_pointer_set(fregs, 0);
}
MODULE_LICENSE("GPL");
