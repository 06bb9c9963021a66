// SPDX-License-Identifier: Apache-2.0
// What ext2, ext3 and ext4 have allocated, by their block bitmaps.
import type { ChangeMap } from '../changes/change-map.js';
import { crc32cRegister } from './crc32c.js';
import {
  bitmapChecksumMask,
  Ext4Groups,
  groupEnd,
  groupStart,
  ownBlocks,
  type BlockRange,
  type Ext4Group,
} from './ext4-groups.js';
import { insistOnEmptyJournal } from './ext4-journal.js';
import { readExt4Superblock, type Ext4 } from './ext4-superblock.js';
import { FreeSpace } from './free-space.js';
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';

/** Bitmaps are read so many bytes at a time, the next ones while these are looked at. */
const READ_SIZE = 1 << 18;

/** The runs of bits that are 0 among the first `bits`, as [start, end). */
function* zeroBits(bitmap: Buffer, bits: number): Generator<BlockRange> {
  let start = -1;
  for (let at = 0; at < bits; at += 32) {
    const word = bitmap.readUInt32LE(at / 8);
    // Most words are all free or all in use.
    if (word === 0) {
      if (start < 0) start = at;
      continue;
    }
    if (word === 0xffff_ffff) {
      if (start >= 0) yield { start, end: at };
      start = -1;
      continue;
    }
    for (let bit = 0; bit < 32; bit += 1) {
      const used = ((word >>> bit) & 1) === 1;
      if (!used && start < 0) start = at + bit;
      if (used && start >= 0) {
        if (start < bits) yield { start, end: Math.min(at + bit, bits) };
        start = -1;
      }
    }
  }
  if (start >= 0 && start < bits) yield { start, end: bits };
}

/** Goes through ranges that ascend, for questions that ascend, too. */
class RangeCursor {
  private at = 0;

  constructor(private readonly ranges: readonly BlockRange[]) {}

  /** The first range that ends behind `block`. */
  after(block: number): BlockRange | undefined {
    while ((this.ranges[this.at]?.end ?? Infinity) <= block) this.at += 1;
    return this.ranges[this.at];
  }
}

/** Reads the bitmaps of some groups; those that were never written are left out. */
async function readBitmaps(
  image: ImageReader,
  fs: Ext4,
  groups: ReadonlyMap<number, Ext4Group>,
): Promise<Map<number, Buffer>> {
  const { blockSize } = fs;
  const wanted = [...groups]
    .filter(([, group]) => !group.uninitialized)
    .map(([number, { blockBitmap }]) => ({ number, blockBitmap }))
    .sort((a, b) => a.blockBitmap - b.blockBitmap);
  const bitmaps = new Map<number, Buffer>();
  const reads: Promise<void>[] = [];
  for (let i = 0; i < wanted.length;) {
    // Bitmaps that lie one after the other are one read.
    const start = wanted[i]?.blockBitmap ?? 0;
    let count = 1;
    while (wanted[i + count]?.blockBitmap === start + count) count += 1;
    const members = wanted.slice(i, i + count);
    reads.push(
      image.read(start * blockSize, count * blockSize).then((bytes) => {
        members.forEach(({ number }, member) => {
          bitmaps.set(number, bytes.subarray(member * blockSize, (member + 1) * blockSize));
        });
      }),
    );
    i += count;
  }
  await Promise.all(reads);
  return bitmaps;
}

interface Batch {
  groups: Map<number, Ext4Group>;
  bitmaps: Map<number, Buffer>;
}

/** All groups in ascending order, some at a time. */
async function* batches(image: ImageReader, fs: Ext4, all: Ext4Groups): AsyncGenerator<Batch> {
  const groupsAtOnce = Math.max(1, READ_SIZE / fs.blockSize);
  const start = (first: number): Promise<Batch> | undefined => {
    if (first >= fs.nrGroups) return undefined;
    const groups = new Map<number, Ext4Group>();
    for (let n = first; n < Math.min(first + groupsAtOnce, fs.nrGroups); n += 1) {
      groups.set(n, all.get(n));
    }
    const batch = readBitmaps(image, fs, groups).then((bitmaps) => ({ groups, bitmaps }));
    // Awaited when its turn comes; until then a failure must not count as unhandled.
    batch.catch(() => undefined);
    return batch;
  };
  let current = start(0);
  for (let first = groupsAtOnce; current; first += groupsAtOnce) {
    const batch: Batch = await current;
    current = start(first);
    yield batch;
  }
}

/** Free clusters of a group that has only what the filesystem has for itself, counted from its start. */
function* freeWhenUninitialized(fs: Ext4, number: number, own: RangeCursor): Generator<BlockRange> {
  const start = groupStart(fs, number);
  const end = groupEnd(fs, number);
  let at = 0;
  let block = start;
  for (let range = own.after(block); range && range.start < end; range = own.after(block)) {
    const used = Math.floor((Math.max(range.start, start) - start) / fs.clusterBlocks);
    if (used > at) yield { start: at, end: used };
    block = Math.min(range.end, end);
    at = Math.ceil((block - start) / fs.clusterBlocks);
    if (block === end) return;
  }
  yield { start: at, end: Math.ceil((end - start) / fs.clusterBlocks) };
}

function checkBitmap(fs: Ext4, number: number, group: Ext4Group, bitmap: Buffer): void {
  if (fs.checksums.kind !== 'crc32c') return;
  const checked = bitmap.subarray(0, fs.clustersPerGroup / 8);
  const mask = bitmapChecksumMask(fs);
  const found = (crc32cRegister(fs.checksums.seed, checked) & mask) >>> 0;
  insist(
    found === group.bitmapChecksum,
    `the checksum of the bitmap of group ${String(number)} is wrong`,
  );
}

/**
 * The blocks that such a filesystem has allocated, and all that is not its own. Rejects with AllocationUnknownError when anything
 * about it is not as it must be: free blocks are counted and compared with what descriptors and superblock say, checksums are checked
 * where there are any, and nothing that the filesystem has for itself may be free.
 */
export async function readExt4Allocated(image: ImageReader, nrBlocks: number): Promise<ChangeMap> {
  const fs = await readExt4Superblock(image);
  const groups = await Ext4Groups.read(image, fs);
  const ranges = ownBlocks(fs, groups);
  await insistOnEmptyJournal(image, fs, groups);
  const free = new FreeSpace(nrBlocks);
  const own = new RangeCursor(ranges);
  const ownOfUninitialized = new RangeCursor(ranges);
  let freeClusters = 0;
  for await (const batch of batches(image, fs, groups)) {
    for (const [number, group] of batch.groups) {
      const start = groupStart(fs, number);
      const end = groupEnd(fs, number);
      const bitmap = batch.bitmaps.get(number);
      if (bitmap) checkBitmap(fs, number, group, bitmap);
      const runs = bitmap
        ? zeroBits(bitmap, Math.ceil((end - start) / fs.clusterBlocks))
        : freeWhenUninitialized(fs, number, ownOfUninitialized);
      let found = 0;
      for (const run of runs) {
        found += run.end - run.start;
        const first = start + run.start * fs.clusterBlocks;
        const last = Math.min(start + run.end * fs.clusterBlocks, end);
        insist(
          (own.after(first)?.start ?? Infinity) >= last,
          `metadata are marked as free in group ${String(number)}`,
        );
        free.add(first * fs.blockSize, last * fs.blockSize);
      }
      insist(
        found === group.freeClusters,
        `group ${String(number)} has ${String(found)} free blocks and says that it has ${String(group.freeClusters)}`,
      );
      freeClusters += found;
    }
  }
  insist(
    freeClusters * fs.clusterBlocks === fs.freeBlocks,
    `it has ${String(freeClusters * fs.clusterBlocks)} free blocks and says that it has ${String(fs.freeBlocks)}`,
  );
  return free.allocated();
}
