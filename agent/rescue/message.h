/* SPDX-License-Identifier: Apache-2.0 */
// What a person is told, and what a script: the exit codes are those of elioctl.
#ifndef MESSAGE_H
#define MESSAGE_H

enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_PARTIAL = 3,
	EXIT_NOT_FOUND = 4,
	EXIT_STATE = 5,
	EXIT_UNREACHABLE = 6,
	EXIT_BUSY = 7,
};

// One line on stderr, in one write: the kernel log, which the initramfs gives for
// stderr, takes each write for a line of its own.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
