// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

void complain(const char *format, ...)
{
	char line[8192] = "elio-rescue: ";
	size_t used = strlen(line);
	// The newline needs room, too.
	size_t room = sizeof(line) - 1 - used;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line + used, room, format, arguments);
	va_end(arguments);
	if (length > 0)
		used += (size_t)length < room ? (size_t)length : room - 1;
	line[used++] = '\n';
	// There is nobody else to tell.
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}
