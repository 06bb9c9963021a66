// SPDX-License-Identifier: Apache-2.0
// The block groups of ext2, ext3 and ext4: where each group's bitmap is, and which blocks the filesystem has for itself.
import { crc16 } from './crc16.js';
import { crc32cRegister } from './crc32c.js';
import { HIGH, type Ext4 } from './ext4-superblock.js';
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';

const READ_SIZE = 1 << 20;
const CHECKSUM_OFFSET = 30;
const INODE_UNINIT = 1;
const BLOCK_UNINIT = 2;
const INODE_ZEROED = 4;

/** A group as its descriptor tells it. Blocks are those of the filesystem. */
export interface Ext4Group {
  blockBitmap: number;
  inodeBitmap: number;
  inodeTable: number;
  freeClusters: number;
  /** Nothing but what the filesystem has for itself is allocated in it, and its bitmap was never written. */
  uninitialized: boolean;
  /** Lower 32 or 16 bits of the checksum of the bitmap. */
  bitmapChecksum: number;
}

/** Blocks [start, end) of the filesystem. */
export interface BlockRange {
  start: number;
  end: number;
}

/** First block of a group. */
export function groupStart(fs: Ext4, group: number): number {
  return fs.firstBlock + group * fs.blocksPerGroup;
}

/** Where a group ends; the last one may be short. */
export function groupEnd(fs: Ext4, group: number): number {
  return Math.min(groupStart(fs, group + 1), fs.nrBlocks);
}

/** Has a bitmap a checksum of 32 bits, or of 16? */
export function bitmapChecksumMask(fs: Ext4): number {
  return fs.descriptorSize >= 64 ? 0xffff_ffff : 0xffff;
}

function descriptorsPerBlock(fs: Ext4): number {
  return fs.blockSize / fs.descriptorSize;
}

/** Block that the superblock is in. */
function superblockBlock(fs: Ext4): number {
  return fs.blockSize === 1024 ? 1 : 0;
}

/** The block of the descriptors number `index`: the kernel's descriptor_loc(). */
function descriptorBlock(fs: Ext4, index: number): number {
  if (index < fs.firstMetaBg) return superblockBlock(fs) + 1 + index;
  const group = index * descriptorsPerBlock(fs);
  const before = fs.hasSuperblock(group) ? 1 : 0;
  // With clusters blocks of 1 KiB count from 0, and the superblock of group 0 is in block 1.
  const shifted = index === 0 ? superblockBlock(fs) - fs.firstBlock : 0;
  return groupStart(fs, group) + before + shifted;
}

function descriptorChecksum(fs: Ext4, group: number, descriptor: Buffer): number {
  const { checksums } = fs;
  const number = Buffer.alloc(4);
  number.writeUInt32LE(group);
  const before = descriptor.subarray(0, CHECKSUM_OFFSET);
  const after = descriptor.subarray(CHECKSUM_OFFSET + 2);
  switch (checksums.kind) {
    case 'none':
      return descriptor.readUInt16LE(CHECKSUM_OFFSET);
    case 'crc16':
      return [number, before, after].reduce(crc16, checksums.seed);
    case 'crc32c':
      return (
        [number, before, Buffer.alloc(2), after].reduce(crc32cRegister, checksums.seed) & 0xffff
      );
  }
}

function parseGroup(fs: Ext4, group: number, descriptor: Buffer): Ext4Group {
  const d = descriptor;
  const name = `group ${String(group)}`;
  insist(
    descriptorChecksum(fs, group, d) === d.readUInt16LE(CHECKSUM_OFFSET),
    `the checksum of ${name} is wrong`,
  );
  const wide = fs.has64Bit;
  const block = (low: number, high: number): number =>
    d.readUInt32LE(low) + (wide ? d.readUInt32LE(high) * HIGH : 0);
  const flags = d.readUInt16LE(18);
  // Without checksums the kernel does not look at them, and mkfs sets only one.
  const known =
    fs.checksums.kind === 'none' ? INODE_ZEROED : INODE_UNINIT | BLOCK_UNINIT | INODE_ZEROED;
  insist((flags & ~known) === 0, `${name} has unknown flags`);
  return {
    blockBitmap: block(0, 32),
    inodeBitmap: block(4, 36),
    inodeTable: block(8, 40),
    freeClusters: d.readUInt16LE(12) + (wide ? d.readUInt16LE(44) * 0x1_0000 : 0),
    uninitialized: (flags & BLOCK_UNINIT) !== 0,
    bitmapChecksum: d.readUInt16LE(24) + (wide ? d.readUInt16LE(56) * 0x1_0000 : 0),
  };
}

/** The descriptors of all groups, each checked when it is asked for. */
export class Ext4Groups {
  private constructor(
    private readonly fs: Ext4,
    /** One after the other, as if they lay together. */
    private readonly bytes: Buffer,
  ) {}

  /** Rejects with AllocationUnknownError when they are not all on the device. */
  static async read(image: ImageReader, fs: Ext4): Promise<Ext4Groups> {
    const { blockSize, descriptorBlocks } = fs;
    const bytes = Buffer.alloc(descriptorBlocks * blockSize);
    const together = Math.min(descriptorBlocks, fs.firstMetaBg) * blockSize;
    const start = descriptorBlock(fs, 0) * blockSize;
    for (let at = 0; at < together; at += READ_SIZE) {
      const piece = await image.read(start + at, Math.min(READ_SIZE, together - at));
      piece.copy(bytes, at);
    }
    for (let at = together; at < bytes.length; at += blockSize) {
      const piece = await image.read(descriptorBlock(fs, at / blockSize) * blockSize, blockSize);
      piece.copy(bytes, at);
    }
    return new Ext4Groups(fs, bytes);
  }

  /** Throws AllocationUnknownError when the descriptor is damaged. */
  get(group: number): Ext4Group {
    const size = this.fs.descriptorSize;
    return parseGroup(this.fs, group, this.bytes.subarray(group * size, (group + 1) * size));
  }
}

/** The copy of the superblock and the descriptors that a group begins with. */
function groupHead(fs: Ext4, group: number): BlockRange {
  const start = groupStart(fs, group);
  const hasSuperblock = fs.hasSuperblock(group);
  // Before the superblock of group 0, when blocks are of 1 KiB and count from 0, there is the boot block.
  let blocks = hasSuperblock ? 1 + (group === 0 ? superblockBlock(fs) - fs.firstBlock : 0) : 0;
  const perBlock = descriptorsPerBlock(fs);
  if (group < fs.firstMetaBg * perBlock) {
    if (hasSuperblock) {
      blocks += Math.min(fs.descriptorBlocks, fs.firstMetaBg) + fs.reservedDescriptorBlocks;
    }
  } else if ([0, 1, perBlock - 1].includes(group % perBlock)) {
    blocks += 1;
  }
  return { start, end: start + blocks };
}

/**
 * All that the filesystem has for itself, ascending: superblocks, descriptors, bitmaps, tables of inodes. Throws
 * AllocationUnknownError when some of it overlaps, or lies behind the end.
 */
export function ownBlocks(fs: Ext4, groups: Ext4Groups): BlockRange[] {
  const ranges: BlockRange[] = [];
  // Of each kind those of several groups often lie one after the other: that is one range.
  const kinds: (BlockRange | undefined)[] = [];
  const add = (kind: number, start: number, blocks: number): void => {
    const last = kinds[kind];
    if (last?.end === start) {
      last.end += blocks;
      return;
    }
    const range = { start, end: start + blocks };
    kinds[kind] = range;
    ranges.push(range);
  };
  for (let group = 0; group < fs.nrGroups; group += 1) {
    const { blockBitmap, inodeBitmap, inodeTable } = groups.get(group);
    const head = groupHead(fs, group);
    if (head.end > head.start) ranges.push(head);
    add(0, blockBitmap, 1);
    add(1, inodeBitmap, 1);
    add(2, inodeTable, fs.inodeTableBlocks);
  }
  ranges.sort((a, b) => a.start - b.start);
  let end = fs.firstBlock;
  for (const range of ranges) {
    insist(
      range.start >= end && range.end <= fs.nrBlocks,
      'its metadata overlap, or are not in it',
    );
    ({ end } = range);
  }
  return ranges;
}
