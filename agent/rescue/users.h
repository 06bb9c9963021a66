/* SPDX-License-Identifier: Apache-2.0 */
// Which processes have an image open.
#ifndef USERS_H
#define USERS_H

#include "message.h"

// Prints a line for each image of each process that has it open: minor, process
// and command, "0 1234 cat". Files below /dev are looked at only: a path on a
// network filesystem could hang.
enum exit_code print_users(void);

#endif
