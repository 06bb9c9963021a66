// SPDX-License-Identifier: Apache-2.0
// The superblock of XFS: struct xfs_dsb in the kernel's fs/xfs/libxfs/xfs_format.h. Numbers are big-endian, checksums are not.
import { crc32c } from './crc32c.js';
import type { ImageReader } from './image-reader.js';
import { insist, insistOnFlags } from './unknown.js';

const MAGIC = 0x5846_5342;
const VERSION_MASK = 0xf;
const SMALLEST_SUPERBLOCK = 512;

/** Feature bits of sb_versionnum in a filesystem of version 4. */
const VERSION4_FLAGS = {
  ATTR: 0x10,
  NLINK: 0x20,
  QUOTA: 0x40,
  ALIGN: 0x80,
  DALIGN: 0x100,
  LOGV2: 0x400,
  SECTOR: 0x800,
  EXTFLG: 0x1000,
  DIRV2: 0x2000,
  BORG: 0x4000,
  MOREBITS: 0x8000,
} as const;

const FEATURES2 = {
  LAZYSBCOUNT: 0x2,
  ATTR2: 0x8,
  PROJID32: 0x80,
  CRC: 0x100,
  FTYPE: 0x200,
} as const;

const RO_COMPAT = { FINOBT: 0x1, RMAPBT: 0x2, REFLINK: 0x4, INOBTCNT: 0x8 } as const;

/** Not among them: NEEDSREPAIR, and what puts files on other devices. */
const INCOMPAT = {
  FTYPE: 0x1,
  SPINODES: 0x2,
  META_UUID: 0x4,
  BIGTIME: 0x8,
  NREXT64: 0x20,
  EXCHRANGE: 0x40,
  PARENT: 0x80,
} as const;

const LOG_INCOMPAT = { XATTRS: 0x1 } as const;

function allOf(flags: Readonly<Record<string, number>>): number {
  return Object.values(flags).reduce((all, flag) => all | flag, 0);
}

/** What the superblock says of where things are. Blocks are those of the filesystem. */
export interface Xfs {
  blockSize: number;
  sectorSize: number;
  nrBlocks: number;
  /** Free blocks; fewer than the groups have when some are promised to somebody. */
  freeBlocks: number;
  /** Version 5: metadata have checksums, and say whose they are. */
  hasChecksums: boolean;
  /** The superblock's counts are true only when nobody changes the filesystem, and groups count the blocks of their trees. */
  countsLazily: boolean;
  hasRmap: boolean;
  hasReflink: boolean;
  nrGroups: number;
  blocksPerGroup: number;
  /** That of the filesystem, which is in its log. */
  uuid: Buffer;
  /** That in its metadata. */
  metaUuid: Buffer;
  /** The log: its first block, counted over all groups, and its length; undefined: it is on another device. */
  log: { start: number; blocks: number } | undefined;
}

/** Does it begin like an XFS? `start` is the beginning of the volume. */
export function isXfs(start: Buffer): boolean {
  return start.readUInt32BE(0) === MAGIC;
}

/** A number of 64 bits that has to be one that can be counted with. */
export function readUInt64(buffer: Buffer, offset: number): number {
  const value = Number(buffer.readBigUInt64BE(offset));
  insist(Number.isSafeInteger(value), 'a number in it is impossible');
  return value;
}

/** Blocks of a group; the last one may be short. */
export function groupBlocks(fs: Xfs, group: number): number {
  return Math.min(fs.blocksPerGroup, fs.nrBlocks - group * fs.blocksPerGroup);
}

/**
 * Is the checksum of metadata right? It is a little-endian word at `offset`, over all of them, in which it counts as zero.
 */
export function hasRightChecksum(metadata: Buffer, offset: number): boolean {
  const found = crc32c(
    metadata.subarray(0, offset),
    Buffer.alloc(4),
    metadata.subarray(offset + 4),
  );
  return found === metadata.readUInt32LE(offset);
}

function checkVersion4(sb: Buffer): void {
  const version = sb.readUInt16BE(100);
  insistOnFlags(version & ~VERSION_MASK, allOf(VERSION4_FLAGS), 'version 4');
  insist((version & VERSION4_FLAGS.DIRV2) !== 0, 'its directories are of the first version');
  if ((version & VERSION4_FLAGS.MOREBITS) === 0) return;
  insist(
    sb.readUInt32BE(200) === sb.readUInt32BE(204),
    'it was written by a kernel that had its features in the wrong place',
  );
  insistOnFlags(sb.readUInt32BE(200), allOf(FEATURES2) & ~FEATURES2.CRC, 'features2');
}

function checkVersion5(sb: Buffer): void {
  // Those of version 4 are set as the kernel demands; only the features2 among them can have news.
  insistOnFlags(sb.readUInt16BE(100) & ~VERSION_MASK, allOf(VERSION4_FLAGS), 'version 4');
  insistOnFlags(sb.readUInt32BE(200), allOf(FEATURES2), 'features2');
  insistOnFlags(sb.readUInt32BE(208), 0, 'compatible');
  insistOnFlags(sb.readUInt32BE(212), allOf(RO_COMPAT), 'read-only compatible');
  insistOnFlags(sb.readUInt32BE(216), allOf(INCOMPAT), 'incompatible');
  insistOnFlags(sb.readUInt32BE(220), allOf(LOG_INCOMPAT), 'log-incompatible');
}

function checkGeometry(fs: Xfs, sb: Buffer, image: ImageReader): void {
  const isPowerOfTwo = (n: number): boolean => n > 0 && (n & (n - 1)) === 0;
  insist(
    isPowerOfTwo(fs.sectorSize) &&
      fs.sectorSize >= SMALLEST_SUPERBLOCK &&
      fs.sectorSize <= 32768 &&
      isPowerOfTwo(fs.blockSize) &&
      fs.blockSize >= fs.sectorSize &&
      fs.blockSize <= 65536,
    'the size of its blocks or sectors is impossible',
  );
  insist(fs.nrBlocks * fs.blockSize <= image.sizeBytes, 'it is larger than its device');
  insist(
    fs.nrGroups > 0 &&
      fs.blocksPerGroup >= 64 &&
      (fs.nrGroups - 1) * fs.blocksPerGroup < fs.nrBlocks &&
      fs.nrGroups * fs.blocksPerGroup >= fs.nrBlocks &&
      sb.readUInt8(124) === 32 - Math.clz32(fs.blocksPerGroup - 1),
    'the size of its allocation groups is impossible',
  );
}

function placeOfLog(fs: Xfs, sb: Buffer): Xfs['log'] {
  const place = readUInt64(sb, 48);
  const blocks = sb.readUInt32BE(96);
  if (place === 0) return undefined;
  const groupSpan = 2 ** sb.readUInt8(124);
  const group = Math.floor(place / groupSpan);
  const block = place % groupSpan;
  insist(
    blocks > 0 && group < fs.nrGroups && block + blocks <= groupBlocks(fs, group),
    'the place of its log is impossible',
  );
  return { start: group * fs.blocksPerGroup + block, blocks };
}

/**
 * Reads the superblock. Rejects with AllocationUnknownError when it is damaged, of a filesystem that has to be repaired, or has a
 * feature that is not known here.
 */
export async function readXfsSuperblock(image: ImageReader): Promise<Xfs> {
  const start = await image.read(0, SMALLEST_SUPERBLOCK);
  insist(isXfs(start), 'it has no superblock');
  const version = start.readUInt16BE(100) & VERSION_MASK;
  insist(version === 4 || version === 5, `its version ${String(version)} is not known here`);
  const sectorSize = start.readUInt16BE(102);
  insist(sectorSize >= SMALLEST_SUPERBLOCK, 'the size of its sectors is impossible');
  const sb = await image.read(0, sectorSize);
  const hasChecksums = version === 5;
  if (hasChecksums) {
    insist(hasRightChecksum(sb, 224), 'the checksum of its superblock is wrong');
    checkVersion5(sb);
  } else {
    checkVersion4(sb);
  }
  insist(sb.readUInt8(126) === 0, 'it is not complete (mkfs or growfs was interrupted)');
  insist(
    readUInt64(sb, 16) === 0 && readUInt64(sb, 24) === 0,
    'a part of it is on a realtime device',
  );
  const blocksPerGroup = sb.readUInt32BE(84);
  const incompat = hasChecksums ? sb.readUInt32BE(216) : 0;
  const roCompat = hasChecksums ? sb.readUInt32BE(212) : 0;
  const hasFeatures2 = (sb.readUInt16BE(100) & VERSION4_FLAGS.MOREBITS) !== 0;
  const features2 = hasFeatures2 ? sb.readUInt32BE(200) : 0;
  const uuid = sb.subarray(32, 48);
  const fs: Xfs = {
    blockSize: sb.readUInt32BE(4),
    sectorSize,
    nrBlocks: readUInt64(sb, 8),
    freeBlocks: readUInt64(sb, 144),
    hasChecksums,
    countsLazily: hasChecksums || (features2 & FEATURES2.LAZYSBCOUNT) !== 0,
    hasRmap: (roCompat & RO_COMPAT.RMAPBT) !== 0,
    hasReflink: (roCompat & RO_COMPAT.REFLINK) !== 0,
    nrGroups: sb.readUInt32BE(88),
    blocksPerGroup,
    uuid,
    metaUuid: (incompat & INCOMPAT.META_UUID) !== 0 ? sb.subarray(248, 264) : uuid,
    log: undefined,
  };
  checkGeometry(fs, sb, image);
  return { ...fs, log: placeOfLog(fs, sb) };
}
