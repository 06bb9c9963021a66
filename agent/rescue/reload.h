/* SPDX-License-Identifier: Apache-2.0 */
// Announcing at boot what was tracked before it.
#ifndef RELOAD_H
#define RELOAD_H

#include "message.h"

// All of a list, whose devices are waited for so long at most. No list: nothing to do.
enum exit_code reload_list(const char *path, unsigned int wait_seconds);

// The root filesystem's device, before that is mounted; it is waited for as well. The list is on it.
enum exit_code reload_root(const char *path, unsigned int wait_seconds);

#endif
