/* SPDX-License-Identifier: Apache-2.0 */
// A look into a filesystem before it is mounted, which changes not one byte of it.
#ifndef UNMOUNTED_H
#define UNMOUNTED_H

#include <stdbool.h>

struct read_only {
	const char *path;
	int device;
	bool was_writable;
};

// Makes a device that nobody uses read-only until read_only_end(). False: told already, and as it was.
bool read_only_begin(const char *path, struct read_only *ro);

// False: told already, and it stays read-only.
bool read_only_end(struct read_only *ro);

// The content of a file of the filesystem on such a device, to be freed; the filesystem is not mounted any more when
// this returns. NULL and errno otherwise; EMEDIUMTYPE: it is none that can be tracked.
char *read_unmounted(const struct read_only *ro, const char *path);

#endif
