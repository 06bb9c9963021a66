// SPDX-License-Identifier: Apache-2.0
// The driver's ABI, as driver/uapi/elastio-snap.h has it; layout.test.ts compares the two.
import koffi from 'koffi';

export { BLOCK_SIZE, COW_INDEX_OFFSET, COW_SECTION_ENTRIES } from './cow-size.js';

export const CONTROL_PATH = '/dev/elastio-snap-ctl';
/** All trackers as JSON. */
export const TRACKERS_PATH = '/proc/elastio-snap-info';
export const IMAGE_PREFIX = '/dev/elastio-snap';
export const PATH_MAX = 4096;

export const IOCTL = {
  SETUP_SNAP: 0x40284101,
  RELOAD_SNAP: 0x40204102,
  RELOAD_INC: 0x40204103,
  DESTROY: 0x40044104,
  TRANSITION_INC: 0x40044105,
  TRANSITION_SNAP: 0x40184106,
  RECONFIGURE: 0x40104107,
  INFO: 0xa0584108,
  GET_FREE: 0x80044109,
  VERSION: 0x80304140,
  CHANGES: 0xc0384141,
} as const;

export type IoctlName = keyof typeof IOCTL;

export const STATE = { SNAPSHOT: 1n, ACTIVE: 2n, UNVERIFIED: 4n } as const;
export const COW_ON_BDEV = 2;

export const setupParams = koffi.struct('elastio_snap_setup_params', {
  bdev: 'const char *',
  cow: 'const char *',
  cow_size_mib: 'uint64_t',
  cache_size: 'uint64_t',
  minor: 'uint32_t',
  ignore_errors: 'uint8_t',
});

export const reloadParams = koffi.struct('elastio_snap_reload_params', {
  bdev: 'const char *',
  cow: 'const char *',
  cache_size: 'uint64_t',
  minor: 'uint32_t',
  ignore_errors: 'uint8_t',
});

export const transitionParams = koffi.struct('elastio_snap_transition_params', {
  cow: 'const char *',
  cow_size_mib: 'uint64_t',
  minor: 'uint32_t',
});

export const reconfigureParams = koffi.struct('elastio_snap_reconfigure_params', {
  cache_size: 'uint64_t',
  minor: 'uint32_t',
});

/** Offsets in struct elastio_snap_info, which is read and written as bytes. */
export const INFO = {
  size: 8280,
  minor: 0,
  flags: 4,
  state: 8,
  error: 16,
  cache_size: 24,
  cow_size: 32,
  seqid: 40,
  uuid: 48,
  cow: 64,
  bdev: 4160,
  version: 8256,
  nr_changed_blocks: 8264,
  ignore_errors: 8272,
} as const;

/** Offsets in struct elastio_snap_version, and the bits of its capabilities. */
export const VERSION = { size: 48, extension: 0, capabilities: 8, module: 16 } as const;
export const CAP_CHANGES = 1n;

/** Offsets in struct elastio_snap_changes_params, whose `extents` is the address of what it fills. */
export const CHANGES = {
  size: 56,
  uuid: 0,
  seqid: 16,
  block: 24,
  extents: 32,
  max_extents: 40,
  nr_extents: 44,
  minor: 48,
  complete: 52,
} as const;

/** Offsets in struct elastio_snap_changed. */
export const CHANGED = { size: 16, first: 0, nr: 8 } as const;

export const CHANGES_MAX = 65536;

/** Offsets in struct elastio_snap_cow_header, and what the fields may hold. */
export const COW_HEADER = {
  size: 64,
  magic: 0,
  flags: 4,
  fpos: 8,
  fsize: 16,
  seqid: 24,
  uuid: 32,
  version: 48,
  nr_changed_blocks: 56,
} as const;

export const COW_MAGIC = 4776;
export const COW_CLEAN = 1;
