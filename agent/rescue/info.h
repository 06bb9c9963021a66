/* SPDX-License-Identifier: Apache-2.0 */
// A tracker as `elioctl info` prints it.
#ifndef INFO_H
#define INFO_H

#include "elastio-snap.h"

// Prints the object on stdout, without a newline behind it.
void print_info(const struct elastio_snap_info *info);

#endif
