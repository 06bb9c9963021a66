// SPDX-License-Identifier: Apache-2.0
// The superblock of ext2, ext3 and ext4: struct ext4_super_block in the kernel's fs/ext4/ext4.h.
import { crc16 } from './crc16.js';
import { crc32cRegister } from './crc32c.js';
import type { ImageReader } from './image-reader.js';
import { insist, insistOnFlags } from './unknown.js';

const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_SIZE = 1024;
const MAGIC = 0xef53;
/** s_state: unmounted cleanly, or mounted with a journal; and no other bit, each of which means trouble. */
const VALID_FS = 1;
const CHECKSUM_CRC32C = 1;
const OLD_DESCRIPTOR_SIZE = 32;
/** Those of 128 TiB with the usual blocks: what is kept of them while they are looked at has to have a limit. */
const MOST_GROUPS = 1 << 20;
/** 2^32 of the lower half of a number. */
export const HIGH = 0x1_0000_0000;

const COMPAT = {
  DIR_PREALLOC: 0x1,
  HAS_JOURNAL: 0x4,
  EXT_ATTR: 0x8,
  RESIZE_INODE: 0x10,
  DIR_INDEX: 0x20,
  SPARSE_SUPER2: 0x200,
  FAST_COMMIT: 0x400,
  STABLE_INODES: 0x800,
  ORPHAN_FILE: 0x1000,
} as const;

const RO_COMPAT = {
  SPARSE_SUPER: 0x1,
  LARGE_FILE: 0x2,
  HUGE_FILE: 0x8,
  GDT_CSUM: 0x10,
  DIR_NLINK: 0x20,
  EXTRA_ISIZE: 0x40,
  QUOTA: 0x100,
  BIGALLOC: 0x200,
  METADATA_CSUM: 0x400,
  READONLY: 0x1000,
  PROJECT: 0x2000,
  VERITY: 0x8000,
  ORPHAN_PRESENT: 0x1_0000,
} as const;

const NEEDS_RECOVERY = 0x4;
const INCOMPAT = {
  FILETYPE: 0x2,
  META_BG: 0x10,
  EXTENTS: 0x40,
  SIXTYFOUR_BIT: 0x80,
  MMP: 0x100,
  FLEX_BG: 0x200,
  EA_INODE: 0x400,
  CSUM_SEED: 0x2000,
  LARGEDIR: 0x4000,
  INLINE_DATA: 0x8000,
  ENCRYPT: 0x1_0000,
  CASEFOLD: 0x2_0000,
} as const;

function allOf(flags: Readonly<Record<string, number>>): number {
  return Object.values(flags).reduce((all, flag) => all | flag, 0);
}

/** How the checksums of group descriptors and bitmaps are made; of bitmaps there are only those of metadata_csum. */
export type GroupChecksums =
  { kind: 'none' } | { kind: 'crc16'; seed: number } | { kind: 'crc32c'; seed: number };

/** What the superblock says of where things are. Blocks are those of the filesystem. */
export interface Ext4 {
  blockSize: number;
  /** Of the whole filesystem, those before `firstBlock` among them. */
  nrBlocks: number;
  freeBlocks: number;
  /** First block of group 0. */
  firstBlock: number;
  /** Blocks for each bit of a bitmap. */
  clusterBlocks: number;
  clustersPerGroup: number;
  blocksPerGroup: number;
  nrGroups: number;
  inodeSize: number;
  inodesPerGroup: number;
  inodeTableBlocks: number;
  descriptorSize: number;
  /** Blocks of descriptors, spare ones not among them. */
  descriptorBlocks: number;
  /** Blocks after the descriptors that are kept for more of them. */
  reservedDescriptorBlocks: number;
  /** From this block of descriptors on they are in the groups that they describe; Infinity: none is. */
  firstMetaBg: number;
  /** Groups that have a copy of the superblock. */
  hasSuperblock: (group: number) => boolean;
  checksums: GroupChecksums;
  /** Inode of the journal; 0: there is none, or it is on another device. */
  journalInode: number;
  has64Bit: boolean;
}

/** Does it begin like one of these filesystems? `start` is the first 2 KiB of the volume. */
export function isExt4(start: Buffer): boolean {
  return start.readUInt16LE(SUPERBLOCK_OFFSET + 56) === MAGIC;
}

function isPowerOf(base: number, n: number): boolean {
  let power = base;
  while (power < n) power *= base;
  return power === n;
}

function isPowerOfTwo(n: number): boolean {
  return n > 0 && (n & (n - 1)) === 0;
}

function superblockGroups(
  sparse: boolean,
  backups: readonly number[] | undefined,
): (group: number) => boolean {
  return (group) => {
    if (group === 0) return true;
    if (backups) return backups.includes(group);
    if (group === 1 || !sparse) return true;
    return [3, 5, 7].some((base) => isPowerOf(base, group));
  };
}

function checkFeatures(compat: number, incompat: number, roCompat: number): void {
  insist(
    (incompat & NEEDS_RECOVERY) === 0,
    'its journal has not been replayed (needs_recovery is set)',
  );
  insistOnFlags(compat, allOf(COMPAT), 'compatible');
  insistOnFlags(incompat, allOf(INCOMPAT), 'incompatible');
  insistOnFlags(roCompat, allOf(RO_COMPAT), 'read-only compatible');
}

/**
 * Reads the superblock. Rejects with AllocationUnknownError when it is damaged, of a filesystem that has errors or has to be
 * recovered, or has a feature that is not known here.
 */
export async function readExt4Superblock(image: ImageReader): Promise<Ext4> {
  const sb = await image.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE);
  const u32 = (offset: number): number => sb.readUInt32LE(offset);
  const u16 = (offset: number): number => sb.readUInt16LE(offset);
  insist(u16(56) === MAGIC, 'it has no superblock');
  insist(u32(76) === 1, `its revision ${String(u32(76))} is not known here`);
  const [compat, incompat, roCompat] = [u32(92), u32(96), u32(100)];
  checkFeatures(compat, incompat, roCompat);

  const metadataCsum = (roCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  const uuid = sb.subarray(104, 120);
  if (metadataCsum) {
    insist(sb[373] === CHECKSUM_CRC32C, 'the algorithm of its checksums is not known here');
    insist(
      crc32cRegister(0xffff_ffff, sb.subarray(0, 1020)) === u32(1020),
      'the checksum of its superblock is wrong',
    );
  }
  // Without a journal the mark is taken away for as long as it is mounted. A crash before that mount may have left bitmaps that
  // lack blocks of files, and nobody could tell any more.
  insist(
    u16(58) === VALID_FS,
    `it is not marked as clean (state ${String(u16(58))}): it was mounted without a journal, or has errors`,
  );
  insist(u32(404) === 0, `the kernel has noted ${String(u32(404))} errors in it`);

  const has64Bit = (incompat & INCOMPAT.SIXTYFOUR_BIT) !== 0;
  const high = (offset: number): number => (has64Bit ? u32(offset) * HIGH : 0);
  const nrBlocks = u32(4) + high(336);
  const freeBlocks = u32(12) + high(344);
  insist(u32(24) <= 6 && u32(28) <= 20, 'its block size is impossible');
  const blockSize = 1024 << u32(24);
  const clusterSize = 1024 << u32(28);
  const bigalloc = (roCompat & RO_COMPAT.BIGALLOC) !== 0;
  insist(
    bigalloc ? clusterSize >= blockSize : clusterSize === blockSize,
    'its cluster size is impossible',
  );
  const clusterBlocks = clusterSize / blockSize;
  const firstBlock = u32(20);
  insist(firstBlock === (clusterSize === 1024 ? 1 : 0), 'its first block is impossible');
  const [blocksPerGroup, clustersPerGroup, inodesPerGroup] = [u32(32), u32(36), u32(40)];
  insist(
    clustersPerGroup > 0 &&
      clustersPerGroup <= 8 * blockSize &&
      clustersPerGroup % 8 === 0 &&
      blocksPerGroup === clustersPerGroup * clusterBlocks,
    'the size of its groups is impossible',
  );
  insist(
    nrBlocks > firstBlock && nrBlocks * blockSize <= image.sizeBytes,
    'it is larger than its device',
  );
  insist(freeBlocks < nrBlocks, 'it has more free blocks than blocks');
  const nrGroups = Math.ceil((nrBlocks - firstBlock) / blocksPerGroup);
  insist(nrGroups <= MOST_GROUPS, 'it has more groups than are looked at here');
  const inodeSize = u16(88);
  insist(
    isPowerOfTwo(inodeSize) && inodeSize >= 128 && inodeSize <= blockSize,
    'the size of its inodes is impossible',
  );
  insist(
    inodesPerGroup > 0 &&
      inodesPerGroup <= 8 * blockSize &&
      (inodesPerGroup * inodeSize) % blockSize === 0 &&
      u32(0) === inodesPerGroup * nrGroups,
    'the number of its inodes is impossible',
  );
  const descriptorSize = has64Bit ? u16(254) : OLD_DESCRIPTOR_SIZE;
  insist(
    isPowerOfTwo(descriptorSize) &&
      descriptorSize >= (has64Bit ? 2 * OLD_DESCRIPTOR_SIZE : OLD_DESCRIPTOR_SIZE) &&
      descriptorSize <= 1024,
    'the size of its group descriptors is impossible',
  );
  const descriptorBlocks = Math.ceil((nrGroups * descriptorSize) / blockSize);
  const firstMetaBg = (incompat & INCOMPAT.META_BG) !== 0 ? u32(260) : Infinity;
  insist(
    firstMetaBg === Infinity || firstMetaBg <= descriptorBlocks,
    'it has fewer group descriptors than it says',
  );
  const reservedDescriptorBlocks = u16(206);
  insist(
    (compat & COMPAT.RESIZE_INODE) !== 0 || reservedDescriptorBlocks === 0,
    'it keeps blocks for descriptors without a reason',
  );

  const seed = (incompat & INCOMPAT.CSUM_SEED) !== 0 ? u32(624) : crc32cRegister(0xffff_ffff, uuid);
  const gdtCsum = (roCompat & RO_COMPAT.GDT_CSUM) !== 0;
  const checksums: GroupChecksums = metadataCsum
    ? { kind: 'crc32c', seed }
    : gdtCsum
      ? { kind: 'crc16', seed: crc16(0xffff, uuid) }
      : { kind: 'none' };
  const backups = (compat & COMPAT.SPARSE_SUPER2) !== 0 ? [u32(588), u32(592)] : undefined;
  return {
    blockSize,
    nrBlocks,
    freeBlocks,
    firstBlock,
    clusterBlocks,
    clustersPerGroup,
    blocksPerGroup,
    nrGroups,
    inodeSize,
    inodesPerGroup,
    inodeTableBlocks: (inodesPerGroup * inodeSize) / blockSize,
    descriptorSize,
    descriptorBlocks,
    reservedDescriptorBlocks,
    firstMetaBg,
    hasSuperblock: superblockGroups((roCompat & RO_COMPAT.SPARSE_SUPER) !== 0, backups),
    checksums,
    journalInode: (compat & COMPAT.HAS_JOURNAL) !== 0 ? u32(224) : 0,
    has64Bit,
  };
}
