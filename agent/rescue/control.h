/* SPDX-License-Identifier: Apache-2.0 */
// The driver's calls, with their failures told to a person.
#ifndef CONTROL_H
#define CONTROL_H

#include <stdint.h>

#include "elastio-snap.h"
#include "message.h"
#include "reload-list.h"

// Opens the control device; negative: told already, exit with EXIT_UNREACHABLE.
int control_open(void);

enum exit_code control_info(int control, uint32_t minor, struct elastio_snap_info *info);

enum exit_code control_destroy(int control, uint32_t minor);

// Announces the tracker of an entry, whose device is at `path`. One that is there already is fine.
enum exit_code control_reload(int control, const struct reload_entry *entry, const char *path);

#endif
