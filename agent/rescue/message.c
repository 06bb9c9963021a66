// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "message.h"

void complain(const char *format, ...)
{
	char line[8192] = "elio-rescue: ";
	size_t used = sizeof("elio-rescue: ") - 1;
	size_t room = sizeof(line) - used - 1;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line + used, room + 1, format, arguments);
	va_end(arguments);
	if (length > 0)
		used += (size_t)length < room ? (size_t)length : room;
	line[used < sizeof(line) - 1 ? used++ : used - 1] = '\n';
	// There is nobody else to tell.
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}
