// SPDX-License-Identifier: GPL-2.0-only
/* Until 309dca309fc3 (5.12): a bio knows its disk and the number of its partition. */
#include <linux/module.h>
#include <linux/blkdev.h>
#include <linux/genhd.h>

sector_t probe(struct bio *bio, dev_t dev);
sector_t probe(struct bio *bio, dev_t dev)
{
	struct disk_part_tbl *table = rcu_dereference(bio->bi_disk->part_tbl);
	struct hd_struct *part = rcu_dereference(table->part[bio->bi_partno]);

	return part_devt(part) == dev ? part->start_sect : part->nr_sects;
}
MODULE_LICENSE("GPL");
