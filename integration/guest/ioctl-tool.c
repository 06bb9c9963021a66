// SPDX-License-Identifier: Apache-2.0
// ioctl-tool COMMAND ARGUMENT...: one ioctl of the control device. Prints "ok" (or what was asked for) and exits with 0, or
// prints the errno's name and exits with 1.
#include "elastio-snap.h"
#include "guest.h"

static const char usage[] = "usage: ioctl-tool setup BDEV COW MINOR [MIB [CACHE_BYTES [IGNORE_ERRORS]]]\n"
			    "       ioctl-tool reload-snap|reload-inc BDEV COW MINOR [CACHE_BYTES [IGNORE_ERRORS]]\n"
			    "       ioctl-tool snap COW MINOR [MIB]\n"
			    "       ioctl-tool inc|destroy|info MINOR\n"
			    "       ioctl-tool reconf MINOR CACHE_BYTES\n"
			    "       ioctl-tool changes MINOR SEQID EXTENTS_A_CALL\n"
			    "       ioctl-tool free|version";

static int failed(void)
{
	printf("%s\n", strerrorname_np(errno));
	return 1;
}

static int finish(int result)
{
	if (result)
		return failed();
	printf("ok\n");
	return 0;
}

static uint64_t optional(int argc, char **argv, int index)
{
	return index < argc ? number(argv[index]) : 0;
}

static void print_string(const char *key, const char *value)
{
	printf("\"%s\":\"", key);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			printf("\\%c", *value);
		else if ((unsigned char)*value < 0x20)
			printf("\\u%04x", *value);
		else
			putchar(*value);
	}
	printf("\",");
}

static int print_info(int fd, uint32_t minor)
{
	struct elastio_snap_info info = { .minor = minor };

	if (ioctl(fd, ELASTIO_SNAP_INFO, &info))
		return failed();
	printf("{\"minor\":%u,\"flags\":%u,\"state\":%llu,\"error\":%d,\"cacheSizeBytes\":%llu,"
	       "\"cowSizeBytes\":%llu,\"seqId\":%llu,",
	       info.minor, info.flags, info.state, info.error, info.cache_size, info.cow_size,
	       info.seqid);
	printf("\"uuid\":\"");
	for (size_t i = 0; i < sizeof(info.uuid); i++)
		printf("%02x", info.uuid[i]);
	printf("\",");
	print_string("cow", info.cow);
	print_string("bdev", info.bdev);
	printf("\"version\":%llu,\"nrChangedBlocks\":%llu,\"ignoreErrors\":%u}\n", info.version,
	       info.nr_changed_blocks, info.ignore_errors);
	return 0;
}

// The changes since a snapshot of the tracker, "first number" a line, read by parts.
static int print_changes(int fd, uint32_t minor, uint64_t seqid, uint32_t max)
{
	struct elastio_snap_changed *extents = allocate((max + 1) * sizeof(*extents));
	struct elastio_snap_info info = { .minor = minor };
	struct elastio_snap_changes_params params = {
		.seqid = seqid,
		.extents = (uintptr_t)extents,
		.max_extents = max,
		.minor = minor,
	};

	if (ioctl(fd, ELASTIO_SNAP_INFO, &info))
		return failed();
	memcpy(params.uuid, info.uuid, sizeof(params.uuid));
	while (!params.complete) {
		if (ioctl(fd, ELASTIO_SNAP_CHANGES, &params))
			return failed();
		for (uint32_t i = 0; i < params.nr_extents; i++)
			printf("%llu %llu\n", extents[i].first, extents[i].nr);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	int fd = open(ELASTIO_SNAP_CTL_PATH, O_RDONLY);

	if (fd < 0)
		return failed();
	if (!strcmp(command, "setup") && argc >= 5 && argc <= 8) {
		struct elastio_snap_setup_params params = {
			.bdev = (uintptr_t)argv[2],
			.cow = (uintptr_t)argv[3],
			.minor = number(argv[4]),
			.cow_size_mib = optional(argc, argv, 5),
			.cache_size = optional(argc, argv, 6),
			.ignore_errors = optional(argc, argv, 7),
		};

		return finish(ioctl(fd, ELASTIO_SNAP_SETUP_SNAP, &params));
	}
	if (!strncmp(command, "reload-", 7) && argc >= 5 && argc <= 7) {
		struct elastio_snap_reload_params params = {
			.bdev = (uintptr_t)argv[2],
			.cow = (uintptr_t)argv[3],
			.minor = number(argv[4]),
			.cache_size = optional(argc, argv, 5),
			.ignore_errors = optional(argc, argv, 6),
		};

		if (!strcmp(command, "reload-snap"))
			return finish(ioctl(fd, ELASTIO_SNAP_RELOAD_SNAP, &params));
		if (!strcmp(command, "reload-inc"))
			return finish(ioctl(fd, ELASTIO_SNAP_RELOAD_INC, &params));
	}
	if (!strcmp(command, "snap") && (argc == 4 || argc == 5)) {
		struct elastio_snap_transition_params params = {
			.cow = (uintptr_t)argv[2],
			.minor = number(argv[3]),
			.cow_size_mib = optional(argc, argv, 4),
		};

		return finish(ioctl(fd, ELASTIO_SNAP_TRANSITION_SNAP, &params));
	}
	if (!strcmp(command, "reconf") && argc == 4) {
		struct elastio_snap_reconfigure_params params = {
			.minor = number(argv[2]),
			.cache_size = number(argv[3]),
		};

		return finish(ioctl(fd, ELASTIO_SNAP_RECONFIGURE, &params));
	}
	if (!strcmp(command, "free") && argc == 2) {
		int32_t minor;

		if (ioctl(fd, ELASTIO_SNAP_GET_FREE, &minor))
			return failed();
		printf("%d\n", minor);
		return 0;
	}
	if (!strcmp(command, "version") && argc == 2) {
		struct elastio_snap_version version;

		if (ioctl(fd, ELASTIO_SNAP_VERSION, &version))
			return failed();
		printf("{\"extension\":%u,\"capabilities\":%llu,\"module\":\"%.32s\"}\n",
		       version.extension, version.capabilities, version.module);
		return 0;
	}
	if (!strcmp(command, "changes") && argc == 5)
		return print_changes(fd, number(argv[2]), number(argv[3]), number(argv[4]));
	if (argc == 3) {
		uint32_t minor = number(argv[2]);

		if (!strcmp(command, "inc"))
			return finish(ioctl(fd, ELASTIO_SNAP_TRANSITION_INC, &minor));
		if (!strcmp(command, "destroy"))
			return finish(ioctl(fd, ELASTIO_SNAP_DESTROY, &minor));
		if (!strcmp(command, "info"))
			return print_info(fd, minor);
	}
	die("%s", usage);
}
