/* SPDX-License-Identifier: Apache-2.0 */
// Reading small files as a whole.
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <stddef.h>

// The content of an open file with a NUL behind it, to be freed; NULL and errno
// when it cannot be read, is no text (EILSEQ) or larger than a list is (EFBIG).
char *read_text(int fd);

// An attribute of sysfs without the white space around it; false when there is
// none, or when it is empty.
bool read_attribute(const char *path, char *value, size_t size);

#endif
