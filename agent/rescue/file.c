// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#define LARGEST (1024 * 1024)

char *read_text(int fd)
{
	char *text = malloc(LARGEST + 1);
	size_t used = 0;
	ssize_t n;

	if (!text)
		return NULL;
	while ((n = read(fd, text + used, LARGEST + 1 - used)) > 0) {
		used += n;
		if (used > LARGEST) {
			errno = EFBIG;
			n = -1;
			break;
		}
	}
	if (!n && memchr(text, '\0', used)) {
		errno = EILSEQ;
		n = -1;
	}
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[used] = '\0';
	return text;
}

bool read_attribute(const char *path, char *value, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *start = value;
	ssize_t length;

	if (fd < 0)
		return false;
	length = read(fd, value, size - 1);
	close(fd);
	if (length < 0)
		return false;
	while (length && isspace((unsigned char)value[length - 1]))
		length--;
	value[length] = '\0';
	while (isspace((unsigned char)*start))
		start++;
	memmove(value, start, value + length + 1 - start);
	return *value;
}
