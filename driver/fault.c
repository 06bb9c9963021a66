// SPDX-License-Identifier: GPL-2.0-only
/* Which fault point is switched on, in a test build. */
#include <linux/moduleparam.h>

#include "fault.h"

char *esnap_fault_name = "none";
module_param_named(fault, esnap_fault_name, charp, 0444);
MODULE_PARM_DESC(fault, "the fault point that is switched on (test builds only)");
