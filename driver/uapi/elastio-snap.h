/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface of elastio-snap: control device, ioctls, COW file format.
 *
 * Numbers and layouts are those of elastio-snap 0.12.2, so that its tools and
 * library work unchanged.  All integers are little-endian, x86-64 alignment.
 */
#ifndef _UAPI_ELASTIO_SNAP_H
#define _UAPI_ELASTIO_SNAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define ELASTIO_SNAP_CTL_NAME "elastio-snap-ctl"
#define ELASTIO_SNAP_CTL_PATH "/dev/elastio-snap-ctl"
#define ELASTIO_SNAP_INFO_PROC "elastio-snap-info"
#define ELASTIO_SNAP_IMAGE_NAME "elastio-snap"
#define ELASTIO_SNAP_MAGIC 'A'

/* Longest path that an ioctl takes, the terminating NUL included. */
#define ELASTIO_SNAP_PATH_MAX 4096

/* Bits of elastio_snap_info.state. */
#define ELASTIO_SNAP_STATE_SNAPSHOT (1U << 0)
#define ELASTIO_SNAP_STATE_ACTIVE (1U << 1)
#define ELASTIO_SNAP_STATE_UNVERIFIED (1U << 2)

/* Bits of elastio_snap_info.flags. */
#define ELASTIO_SNAP_COW_ON_BDEV (1U << 1)

/**
 * struct elastio_snap_setup_params - argument of ELASTIO_SNAP_SETUP_SNAP
 * @bdev: path of the origin
 * @cow: path of the COW file, on the origin's own filesystem
 * @cow_size_mib: size of the COW file in MiB; 0: a percentage of the origin
 * @cache_size: limit of the index cache in bytes; 0: the default
 * @minor: minor of the image device
 * @ignore_errors: non-zero: failed reads of the image give zeros
 *
 * The bytes behind @ignore_errors are not looked at: callers leave garbage.
 */
struct elastio_snap_setup_params {
	__u64 bdev;
	__u64 cow;
	__u64 cow_size_mib;
	__u64 cache_size;
	__u32 minor;
	__u8 ignore_errors;
	__u8 pad[3];
};

/**
 * struct elastio_snap_reload_params - argument of ELASTIO_SNAP_RELOAD_SNAP/INC
 * @bdev: path of the origin
 * @cow: path of the COW file
 * @cache_size: limit of the index cache in bytes; 0: the default
 * @minor: minor of the image device
 * @ignore_errors: non-zero: failed reads of the image give zeros
 */
struct elastio_snap_reload_params {
	__u64 bdev;
	__u64 cow;
	__u64 cache_size;
	__u32 minor;
	__u8 ignore_errors;
	__u8 pad[3];
};

/**
 * struct elastio_snap_transition_params - argument of ELASTIO_SNAP_TRANSITION_SNAP
 * @cow: path of the new COW file
 * @cow_size_mib: its size in MiB; 0: a percentage of the origin
 * @minor: the tracker
 */
struct elastio_snap_transition_params {
	__u64 cow;
	__u64 cow_size_mib;
	__u32 minor;
	__u8 pad[4];
};

/**
 * struct elastio_snap_reconfigure_params - argument of ELASTIO_SNAP_RECONFIGURE
 * @cache_size: limit of the index cache in bytes; 0: the default
 * @minor: the tracker
 */
struct elastio_snap_reconfigure_params {
	__u64 cache_size;
	__u32 minor;
	__u8 pad[4];
};

/**
 * struct elastio_snap_info - argument of ELASTIO_SNAP_INFO
 * @minor: in and out: the tracker
 * @flags: ELASTIO_SNAP_COW_ON_BDEV
 * @state: ELASTIO_SNAP_STATE_* bits
 * @error: 0, or the negative errno of the first failure
 * @cache_size: limit of the index cache in bytes
 * @cow_size: limit of the COW file in bytes
 * @seqid: sequence id of the snapshot, from 1
 * @uuid: identity of the chain of snapshots
 * @cow: path of the COW file, from the filesystem's root
 * @bdev: path of the origin
 * @version: version of the COW file's format
 * @nr_changed_blocks: blocks changed since the snapshot
 * @ignore_errors: 1 when failed reads of the image give zeros
 *
 * Callers older than 0.12.0 pass a structure that ends before @ignore_errors
 * (ELASTIO_SNAP_INFO_OLD).  Every byte of the size that the caller's number
 * names is written.
 */
struct elastio_snap_info {
	__u32 minor;
	__u32 flags;
	__u64 state;
	__s32 error;
	__u8 pad0[4];
	__u64 cache_size;
	__u64 cow_size;
	__u64 seqid;
	__u8 uuid[16];
	char cow[ELASTIO_SNAP_PATH_MAX];
	char bdev[ELASTIO_SNAP_PATH_MAX];
	__u64 version;
	__u64 nr_changed_blocks;
	__u8 ignore_errors;
	__u8 pad1[7];
};

#define ELASTIO_SNAP_INFO_OLD_SIZE 8272

#define ELASTIO_SNAP_SETUP_SNAP \
	_IOW(ELASTIO_SNAP_MAGIC, 1, struct elastio_snap_setup_params)
#define ELASTIO_SNAP_RELOAD_SNAP \
	_IOW(ELASTIO_SNAP_MAGIC, 2, struct elastio_snap_reload_params)
#define ELASTIO_SNAP_RELOAD_INC \
	_IOW(ELASTIO_SNAP_MAGIC, 3, struct elastio_snap_reload_params)
#define ELASTIO_SNAP_DESTROY _IOW(ELASTIO_SNAP_MAGIC, 4, __u32)
#define ELASTIO_SNAP_TRANSITION_INC _IOW(ELASTIO_SNAP_MAGIC, 5, __u32)
#define ELASTIO_SNAP_TRANSITION_SNAP \
	_IOW(ELASTIO_SNAP_MAGIC, 6, struct elastio_snap_transition_params)
#define ELASTIO_SNAP_RECONFIGURE \
	_IOW(ELASTIO_SNAP_MAGIC, 7, struct elastio_snap_reconfigure_params)
#define ELASTIO_SNAP_INFO _IOR(ELASTIO_SNAP_MAGIC, 8, struct elastio_snap_info)
#define ELASTIO_SNAP_INFO_OLD \
	_IOC(_IOC_READ, ELASTIO_SNAP_MAGIC, 8, ELASTIO_SNAP_INFO_OLD_SIZE)
#define ELASTIO_SNAP_GET_FREE _IOR(ELASTIO_SNAP_MAGIC, 9, __s32)

/*
 * What elastio-snap 0.12.2 does not have.  Numbers from 64 on; a driver without
 * them answers EINVAL, as to any unknown number.
 */
#define ELASTIO_SNAP_EXTENSION_VERSION 1

/* Bits of elastio_snap_version.capabilities. */
#define ELASTIO_SNAP_CAP_CHANGES (1ULL << 0)

/**
 * struct elastio_snap_version - argument of ELASTIO_SNAP_VERSION
 * @extension: ELASTIO_SNAP_EXTENSION_VERSION of the module
 * @reserved: 0
 * @capabilities: ELASTIO_SNAP_CAP_* bits
 * @module: version of the module, NUL-terminated
 */
struct elastio_snap_version {
	__u32 extension;
	__u32 reserved;
	__u64 capabilities;
	char module[32];
};

/**
 * struct elastio_snap_changed - blocks of the origin that follow each other
 * @first: number of the first one
 * @nr: how many
 */
struct elastio_snap_changed {
	__u64 first;
	__u64 nr;
};

/* Most extents that one ELASTIO_SNAP_CHANGES returns. */
#define ELASTIO_SNAP_CHANGES_MAX 65536

/**
 * struct elastio_snap_changes_params - argument of ELASTIO_SNAP_CHANGES
 * @uuid: in: of the tracker
 * @seqid: in: the snapshot since which; the current one, or the one before it
 *	as long as the current one is in snapshot mode
 * @block: in: where to begin; out: where to go on
 * @extents: in: room for @max_extents structures elastio_snap_changed
 * @max_extents: in: from 1 to ELASTIO_SNAP_CHANGES_MAX
 * @nr_extents: out: how many were written, in ascending order
 * @minor: in: the tracker
 * @complete: out: 1 when nothing follows
 *
 * The current snapshot's changes go on: a block that changes behind @block while
 * they are read by parts is not in the answer.  Those of the one before are what
 * had changed at the instant of the current one, and stay the same.
 *
 * Errors: EINVAL (minor out of range, @block behind the end, @max_extents),
 * ENOENT (no tracker), ESTALE (of another uuid or seqid, or unverified), EIO
 * (the tracker has failed: changes may be missing).
 */
struct elastio_snap_changes_params {
	__u8 uuid[16];
	__u64 seqid;
	__u64 block;
	__u64 extents;
	__u32 max_extents;
	__u32 nr_extents;
	__u32 minor;
	__u32 complete;
};

#define ELASTIO_SNAP_VERSION _IOR(ELASTIO_SNAP_MAGIC, 64, struct elastio_snap_version)
#define ELASTIO_SNAP_CHANGES _IOWR(ELASTIO_SNAP_MAGIC, 65, struct elastio_snap_changes_params)

/*
 * The COW file: header | index | data.
 *
 * The index has one little-endian u64 for each block of the origin, rounded up
 * to whole sections.  Data blocks are counted from the start of the file.
 */
#define ELASTIO_SNAP_BLOCK_SIZE 4096
#define ELASTIO_SNAP_BLOCK_SECTORS 8
#define ELASTIO_SNAP_HEADER_SIZE 4096
#define ELASTIO_SNAP_SECTION_ENTRIES 4096
#define ELASTIO_SNAP_SECTION_SIZE (ELASTIO_SNAP_SECTION_ENTRIES * 8)

#define ELASTIO_SNAP_COW_MAGIC 4776U

/*
 * The magic of a file whose header and index were written past the filesystem,
 * which shows zeros there: whoever does not know this magic must not read them.
 */
#define ELASTIO_SNAP_COW_MAGIC_RAW 0x57415245U

#define ELASTIO_SNAP_COW_CLEAN (1U << 0)
#define ELASTIO_SNAP_COW_INDEX_ONLY (1U << 1)

#define ELASTIO_SNAP_COW_VERSION 1

/* Values of an index entry; anything larger is the number of a data block. */
#define ELASTIO_SNAP_ENTRY_UNCHANGED 0
#define ELASTIO_SNAP_ENTRY_CHANGED 1

/**
 * struct elastio_snap_cow_header - the first 64 bytes of the COW file
 * @magic: ELASTIO_SNAP_COW_MAGIC
 * @flags: ELASTIO_SNAP_COW_* bits; others are to be ignored
 * @fpos: number of the next free data block
 * @fsize: limit of the file in bytes
 * @seqid: sequence id of the snapshot, from 1
 * @uuid: identity of the chain of snapshots
 * @version: ELASTIO_SNAP_COW_VERSION
 * @nr_changed_blocks: entries that are not 0
 */
struct elastio_snap_cow_header {
	__le32 magic;
	__le32 flags;
	__le64 fpos;
	__le64 fsize;
	__le64 seqid;
	__u8 uuid[16];
	__le64 version;
	__le64 nr_changed_blocks;
};

/* Where the bitmap of index groups is in a raw header, and its size in bits. */
#define ELASTIO_SNAP_COW_GROUPS_OFFSET 1024
#define ELASTIO_SNAP_COW_GROUPS 24576

/**
 * struct elastio_snap_cow_raw_header - the header with ELASTIO_SNAP_COW_MAGIC_RAW
 * @cow: as ever
 * @origin_sectors: size of the origin in 512-byte sectors
 * @nr_extents: runs of sectors of the origin that the file consists of
 * @extents_digest: SipHash-2-4, by the uuid, of where they are
 * @fingerprint: of the filesystem when the file was closed; 0: it has none
 * @tail_entry: index entry of a last block for which the index has no room
 * @group_shift: log2 of the sections that a bit of the bitmap stands for
 * @checksum: SipHash-2-4, by the uuid, of all 4096 bytes with this field 0
 *
 * The bitmap at ELASTIO_SNAP_COW_GROUPS_OFFSET, least significant bit first,
 * tells which groups of sections were written; all others are zero and must not
 * be read.
 */
struct elastio_snap_cow_raw_header {
	struct elastio_snap_cow_header cow;
	__le64 origin_sectors;
	__le64 nr_extents;
	__le64 extents_digest;
	__le64 fingerprint;
	__le64 tail_entry;
	__le32 group_shift;
	__le32 reserved;
	__le64 checksum;
};

#endif /* _UAPI_ELASTIO_SNAP_H */
