// SPDX-License-Identifier: GPL-2.0-only
/* /proc/elastio-snap-info: all trackers as JSON, in the format of old. */
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "proc.h"
#include "registry.h"
#include "tracker.h"

static void show_string(struct seq_file *m, const char *key, const char *value)
{
	seq_printf(m, "\t\t\t\"%s\": \"", key);
	for (; *value; value++) {
		unsigned char c = *value;

		if (c == '"' || c == '\\')
			seq_printf(m, "\\%c", c);
		else if (c < 0x20)
			seq_printf(m, "\\u%04x", c);
		else
			seq_putc(m, c);
	}
	seq_puts(m, "\",\n");
}

static void show_tracker(struct seq_file *m, const struct elastio_snap_info *info)
{
	seq_puts(m, "\t\t{\n");
	seq_printf(m, "\t\t\t\"minor\": %u,\n", info->minor);
	show_string(m, "cow_file", info->cow);
	show_string(m, "block_device", info->bdev);
	seq_printf(m, "\t\t\t\"max_cache\": %llu,\n", info->cache_size);
	if (!(info->state & ELASTIO_SNAP_STATE_UNVERIFIED)) {
		seq_printf(m, "\t\t\t\"fallocate\": %llu,\n", info->cow_size);
		seq_printf(m, "\t\t\t\"seq_id\": %llu,\n", info->seqid);
		seq_printf(m, "\t\t\t\"uuid\": \"%16phN\",\n", info->uuid);
		seq_printf(m, "\t\t\t\"version\": %llu,\n", info->version);
		seq_printf(m, "\t\t\t\"nr_changed_blocks\": %llu,\n",
			   info->nr_changed_blocks);
	}
	if (info->error)
		seq_printf(m, "\t\t\t\"error\": %d,\n", info->error);
	seq_printf(m, "\t\t\t\"state\": %llu,\n", info->state);
	seq_printf(m, "\t\t\t\"ignore_errors\": %u,\n", info->ignore_errors);
	seq_printf(m, "\t\t\t\"cow_on_bdev\": %s\n",
		   info->flags & ELASTIO_SNAP_COW_ON_BDEV ? "true" : "false");
	seq_puts(m, "\t\t}");
}

static int show(struct seq_file *m, void *v)
{
	struct elastio_snap_info *info = kmalloc(sizeof(*info), GFP_KERNEL);
	bool any = false;
	unsigned int i;

	if (!info)
		return -ENOMEM;
	seq_puts(m, "{\n\t\"version\": \"" ESNAP_VERSION "\",\n\t\"devices\": [\n");
	mutex_lock(&esnap_inner_lock);
	for (i = 0; i < esnap_max_devices; i++) {
		struct esnap_tracker *t = esnap_registry_get(i);

		if (!t)
			continue;
		esnap_tracker_info(t, info);
		if (any)
			seq_puts(m, ",\n");
		show_tracker(m, info);
		any = true;
	}
	mutex_unlock(&esnap_inner_lock);
	seq_puts(m, "\n\t]\n}\n");
	kfree(info);
	return 0;
}

int esnap_proc_init(void)
{
	return proc_create_single(ELASTIO_SNAP_INFO_PROC, 0444, NULL, show) ? 0 : -ENOMEM;
}

void esnap_proc_exit(void)
{
	remove_proc_entry(ELASTIO_SNAP_INFO_PROC, NULL);
}
