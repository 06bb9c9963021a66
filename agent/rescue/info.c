// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

#include "info.h"

static void print_string(const char *key, const char *value)
{
	printf("\t\"%s\": \"", key);
	for (; *value; value++) {
		unsigned char c = *value;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	printf("\",\n");
}

void print_info(const struct elastio_snap_info *info)
{
	printf("{\n\t\"minor\": %u,\n", info->minor);
	print_string("cow_file", info->cow);
	print_string("block_device", info->bdev);
	printf("\t\"max_cache\": %llu,\n", info->cache_size);
	if (!(info->state & ELASTIO_SNAP_STATE_UNVERIFIED)) {
		printf("\t\"fallocate\": %llu,\n", info->cow_size);
		printf("\t\"seq_id\": %llu,\n", info->seqid);
		printf("\t\"uuid\": \"");
		for (size_t i = 0; i < sizeof(info->uuid); i++)
			printf("%02x", info->uuid[i]);
		printf("\",\n");
		if (info->version)
			printf("\t\"version\": %llu,\n\t\"nr_changed_blocks\": %llu,\n", info->version,
			       info->nr_changed_blocks);
	}
	if (info->error)
		printf("\t\"error\": %d,\n", info->error);
	printf("\t\"state\": %llu,\n", info->state);
	printf("\t\"ignore_snap_errors\": %d,\n", info->ignore_errors ? 1 : 0);
	printf("\t\"cow_on_bdev\": %s\n}", info->flags & ELASTIO_SNAP_COW_ON_BDEV ? "true" : "false");
}
