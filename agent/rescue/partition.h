/* SPDX-License-Identifier: Apache-2.0 */
// The identity of a partition, read from its table: kernels before 6.16 do not tell it.
#ifndef PARTITION_H
#define PARTITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The PARTUUID of the partition that sysfs has under this name, in lower case as udev
// writes it: of GPT the entry's GUID, of MBR the disk's id and the partition's number.
bool read_partuuid(const char *name, char *partuuid, size_t size);

// The same of partition `number` of a disk that is open.
bool read_table(int fd, uint32_t sector_size, uint32_t number, char *partuuid, size_t size);

#endif
