// SPDX-License-Identifier: Apache-2.0
// elio-rescue: what is needed of the driver when the agent does not run, at boot and in an emergency. Linked statically,
// it is also the initramfs's.
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "control.h"
#include "info.h"
#include "reload.h"
#include "users.h"

static const char usage[] =
	"usage: elio-rescue list                    what is tracked, as JSON\n"
	"       elio-rescue info MINOR              one of them, as `elioctl info` prints it\n"
	"       elio-rescue destroy MINOR           ends the tracking and deletes its COW file\n"
	"       elio-rescue users                   which processes have an image open: minor, process, command\n"
	"       elio-rescue reload [--list FILE] [--wait SECONDS]\n"
	"           before the filesystems are mounted: goes on tracking what FILE (" RELOAD_LIST_PATH
	") names,\n"
	"           whose devices are waited for so long at most (0)\n"
	"       elio-rescue reload --root DEVICE [--wait SECONDS]\n"
	"           the same for the root filesystem, from the list on it, in the initramfs\n"
	"exit status: 0 done, 1 failed, 2 usage, 3 a part of it failed, 4 not found, 5 the state does not allow it,\n"
	"       6 no module or not allowed, 7 busy\n";

static enum exit_code wrong_usage(void)
{
	fputs(usage, stderr);
	return EXIT_USAGE;
}

static bool parse_number(const char *text, uint32_t *number)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	*number = value;
	return *text >= '0' && *text <= '9' && !*end && !errno && value <= UINT32_MAX;
}

// All output is checked at the end: a script must not take a part of it for the whole.
static enum exit_code end_output(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return EXIT_DONE;
	complain("cannot write the output: %s", strerror(errno));
	return EXIT_FAILED;
}

static enum exit_code info(int control, uint32_t minor)
{
	struct elastio_snap_info info;
	enum exit_code code = control_info(control, minor, &info);

	if (code != EXIT_DONE)
		return code;
	print_info(&info);
	putchar('\n');
	return end_output();
}

static enum exit_code list(int control)
{
	const char *separator = "";

	putchar('[');
	for (uint32_t minor = 0;; minor++) {
		struct elastio_snap_info info = { .minor = minor };

		if (ioctl(control, ELASTIO_SNAP_INFO, &info)) {
			if (errno == ENOENT)
				continue;
			// The first number that is out of range.
			if (errno == EINVAL)
				break;
			return control_info(control, minor, &info);
		}
		fputs(separator, stdout);
		print_info(&info);
		separator = ",\n";
	}
	puts("]");
	return end_output();
}

static enum exit_code reload(int argc, char **argv)
{
	static const struct option options[] = {
		{ "list", required_argument, NULL, 'l' },
		{ "wait", required_argument, NULL, 'w' },
		{ "root", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	const char *path = NULL, *root = NULL;
	uint32_t wait_seconds = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			path = optarg;
		else if (option == 'r')
			root = optarg;
		else if (option != 'w' || !parse_number(optarg, &wait_seconds))
			return wrong_usage();
	}
	if (optind != argc || (root && path))
		return wrong_usage();
	if (root)
		return reload_root(root, wait_seconds);
	return reload_list(path ? path : RELOAD_LIST_PATH, wait_seconds);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	uint32_t minor;
	int control;

	if (!strcmp(command, "reload"))
		return reload(argc - 1, argv + 1);
	if (!strcmp(command, "--help") || !strcmp(command, "help")) {
		fputs(usage, stdout);
		return end_output();
	}
	if (!strcmp(command, "list") && argc == 2) {
		control = control_open();
		return control < 0 ? EXIT_UNREACHABLE : list(control);
	}
	if (!strcmp(command, "users") && argc == 2) {
		enum exit_code code = print_users();

		return code == EXIT_DONE ? end_output() : code;
	}
	if (argc != 3 || !parse_number(argv[2], &minor))
		return wrong_usage();
	if (strcmp(command, "info") && strcmp(command, "destroy"))
		return wrong_usage();
	control = control_open();
	if (control < 0)
		return EXIT_UNREACHABLE;
	return *command == 'i' ? info(control, minor) : control_destroy(control, minor);
}
