// SPDX-License-Identifier: Apache-2.0
// The two trees of free extents that each allocation group of an XFS has: by block, and by size.
import { crc32c } from './crc32c.js';
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';
import { groupBlocks, hasRightChecksum, type Xfs } from './xfs-superblock.js';

const NO_BLOCK = 0xffff_ffff;
const RECORD_SIZE = 8;
const POINTER_SIZE = 4;
const SHORT_HEADER = 16;
const LONG_HEADER = 56;
const CHECKSUM_OFFSET = 52;
/** XFS_BTREE_MAXLEVELS. */
const DEEPEST = 9;
/** Blocks of a tree that are read at the same time. */
const READ_AT_ONCE = 16;

/** What is different in the two trees. */
export interface TreeKind {
  name: string;
  /** In filesystems of version 4 and of version 5. */
  magics: readonly [number, number];
  /** Does a record come before another? */
  precedes: (a: FreeExtent, b: FreeExtent) => boolean;
}

/** Block that a tree begins with, counted from the start of its group, and the tree's levels; 1: that block is a leaf. */
export interface TreeRoot {
  block: number;
  levels: number;
}

/** Free blocks of a group, counted from its start. */
export interface FreeExtent {
  start: number;
  count: number;
}

/** The free extents in the order of their blocks. What touches is one extent. */
export const BY_BLOCK: TreeKind = {
  name: 'free extents by block',
  magics: [0x4142_5442, 0x4142_3342],
  precedes: (a, b) => a.start + a.count < b.start,
};

/** The same extents in the order of their sizes. */
export const BY_SIZE: TreeKind = {
  name: 'free extents by size',
  magics: [0x4142_5443, 0x4142_3343],
  precedes: (a, b) => a.count < b.count || (a.count === b.count && a.start < b.start),
};

interface Node {
  block: number;
  records: FreeExtent[];
  /** Of the nodes below; none in a leaf. */
  children: number[];
  left: number;
  right: number;
}

/** One of the trees of a group. Everything that it rejects with is AllocationUnknownError, unless the image cannot be read. */
export class FreeTree {
  private last: FreeExtent | undefined;
  /** The block that has to come last of each level, and the next one that the last one seen names. */
  private readonly siblings = new Map<number, { block: number; right: number }>();

  constructor(
    private readonly image: ImageReader,
    private readonly fs: Xfs,
    private readonly group: number,
    private readonly kind: TreeKind,
    private readonly root: TreeRoot,
  ) {
    insist(root.levels >= 1 && root.levels <= DEEPEST, this.broken('has an impossible depth'));
  }

  /** The blocks of the tree itself, in no order. Its leaves are not read for it. */
  async blocks(): Promise<number[]> {
    const found = [this.root.block];
    let nodes = found;
    for (let level = this.root.levels - 1; level > 0; level -= 1) {
      const below: number[] = [];
      for (const block of nodes) below.push(...(await this.read(block, level)).children);
      // No tree is larger than its group: this one points to some of its blocks more than once.
      insist(
        found.length + below.length <= groupBlocks(this.fs, this.group),
        this.broken('is endless'),
      );
      for (const block of below) found.push(block);
      nodes = below;
    }
    return found;
  }

  /** All extents in the tree's order, those of a leaf at a time. */
  async *leaves(): AsyncGenerator<FreeExtent[]> {
    const level = this.root.levels - 1;
    yield* this.below(await this.read(this.root.block, level), level, true);
    for (const { right } of this.siblings.values()) {
      insist(right === NO_BLOCK, this.broken('has more blocks than it names'));
    }
  }

  private broken(what: string): string {
    return `the tree of ${this.kind.name} of allocation group ${String(this.group)} ${what}`;
  }

  private async *below(node: Node, level: number, isRoot = false): AsyncGenerator<FreeExtent[]> {
    const before = this.siblings.get(level);
    insist(
      node.left === (before?.block ?? NO_BLOCK) && (before?.right ?? node.block) === node.block,
      this.broken('has blocks that do not follow each other'),
    );
    this.siblings.set(level, { block: node.block, right: node.right });
    insist(isRoot || node.records.length > 0, this.broken('has an empty block'));
    if (level === 0) {
      for (const record of node.records) this.check(record);
      yield node.records;
      return;
    }
    for (let at = 0; at < node.children.length; at += READ_AT_ONCE) {
      const blocks = node.children.slice(at, at + READ_AT_ONCE);
      const children = await Promise.all(blocks.map((block) => this.read(block, level - 1)));
      for (const [i, child] of children.entries()) {
        const [key, first] = [node.records[at + i], child.records[0]];
        insist(
          key?.start === first?.start && key?.count === first?.count,
          this.broken('has a key that is wrong'),
        );
        yield* this.below(child, level - 1);
      }
    }
  }

  private check(extent: FreeExtent): void {
    const headers = Math.ceil((4 * this.fs.sectorSize) / this.fs.blockSize);
    insist(
      extent.count > 0 &&
        extent.start >= headers &&
        extent.start + extent.count <= groupBlocks(this.fs, this.group) &&
        (this.last === undefined || this.kind.precedes(this.last, extent)),
      this.broken('has an impossible extent'),
    );
    this.last = extent;
  }

  private async read(block: number, level: number): Promise<Node> {
    const { fs, group } = this;
    insist(block < groupBlocks(fs, group), this.broken('points out of its group'));
    const offset = (group * fs.blocksPerGroup + block) * fs.blockSize;
    const bytes = await this.image.read(offset, fs.blockSize);
    const u32 = (at: number): number => bytes.readUInt32BE(at);
    const header = fs.hasChecksums ? LONG_HEADER : SHORT_HEADER;
    insist(
      u32(0) === this.kind.magics[fs.hasChecksums ? 1 : 0] && bytes.readUInt16BE(4) === level,
      this.broken('has a block that is none of it'),
    );
    if (fs.hasChecksums) {
      insist(hasRightChecksum(bytes, CHECKSUM_OFFSET), this.broken('has a wrong checksum'));
      insist(
        bytes.readBigUInt64BE(16) === BigInt(offset / 512) &&
          bytes.subarray(32, 48).equals(fs.metaUuid) &&
          u32(48) === group,
        this.broken("has another place's block"),
      );
    }
    const count = bytes.readUInt16BE(6);
    const most = Math.floor(
      (fs.blockSize - header) / (level === 0 ? RECORD_SIZE : RECORD_SIZE + POINTER_SIZE),
    );
    insist(count <= most, this.broken('has a block with too many records'));
    const numbers = Array.from({ length: count }, (_, i) => i);
    const pointers = header + most * RECORD_SIZE;
    return {
      block,
      left: u32(8),
      right: u32(12),
      records: numbers.map((i) => ({
        start: u32(header + i * RECORD_SIZE),
        count: u32(header + i * RECORD_SIZE + 4),
      })),
      children: level === 0 ? [] : numbers.map((i) => u32(pointers + i * POINTER_SIZE)),
    };
  }
}

/** Counts extents, and sums them up so that the order does not matter: two trees with the same sums have the same extents. */
export class ExtentSums {
  private readonly bytes = Buffer.alloc(8);
  extents = 0;
  blocks = 0;
  longest = 0;
  digest = 0;

  add({ start, count }: FreeExtent): void {
    this.extents += 1;
    this.blocks += count;
    this.longest = Math.max(this.longest, count);
    this.bytes.writeUInt32LE(start, 0);
    this.bytes.writeUInt32LE(count, 4);
    this.digest = (this.digest + crc32c(this.bytes)) >>> 0;
  }

  equals(other: ExtentSums): boolean {
    return (
      this.extents === other.extents &&
      this.blocks === other.blocks &&
      this.longest === other.longest &&
      this.digest === other.digest
    );
  }
}
