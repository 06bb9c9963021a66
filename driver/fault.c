// SPDX-License-Identifier: GPL-2.0-only
/* Which fault point is switched on, in a test build. */
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

#include "fault.h"

static const char *const names[] = {
	"none",
#define ESNAP_FAULT_NAME(name) #name,
	ESNAP_FAULT_POINTS(ESNAP_FAULT_NAME)
};

int esnap_fault_on;

static int set_fault(const char *value, const struct kernel_param *param)
{
	int found = __sysfs_match_string(names, ARRAY_SIZE(names), value);

	if (found < 0)
		return found;
	WRITE_ONCE(esnap_fault_on, found);
	return 0;
}

static int get_fault(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%s\n", names[READ_ONCE(esnap_fault_on)]);
}

static const struct kernel_param_ops fault_ops = {
	.set = set_fault,
	.get = get_fault,
};

module_param_cb(fault, &fault_ops, NULL, 0644);
MODULE_PARM_DESC(fault, "the fault point that is switched on (test builds only)");
