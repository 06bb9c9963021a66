// SPDX-License-Identifier: Apache-2.0
import { crc32 } from 'node:zlib';
import { BLOCK_SIZE } from '../driver/layout.js';

const MAGIC = 0x4d43_4c45;
const HEADER_SIZE = 24;
const ENTRY_SIZE = 16;

/** Blocks [first, first + count). Numbers are exact up to 2^53 blocks. */
export interface BlockRun {
  first: number;
  count: number;
}

/** A set of blocks of a volume, those that changed between two snapshot instants, say: ascending runs that never touch. */
export class ChangeMap {
  private constructor(
    readonly nrBlocks: number,
    readonly runs: readonly BlockRun[],
  ) {}

  static empty(nrBlocks: number): ChangeMap {
    return new ChangeMap(nrBlocks, []);
  }

  static full(nrBlocks: number): ChangeMap {
    return new ChangeMap(nrBlocks, nrBlocks > 0 ? [{ first: 0, count: nrBlocks }] : []);
  }

  /** Runs in ascending order of their first block; they may overlap. */
  static fromRuns(nrBlocks: number, runs: Iterable<BlockRun>): ChangeMap {
    const merged: BlockRun[] = [];
    for (const run of runs) {
      const end = Math.min(run.first + run.count, nrBlocks);
      const last = merged.at(-1);
      if (end <= run.first) continue;
      if (last && run.first <= last.first + last.count) {
        last.count = Math.max(last.count, end - last.first);
      } else {
        merged.push({ first: run.first, count: end - run.first });
      }
    }
    return new ChangeMap(nrBlocks, merged);
  }

  has(block: number): boolean {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const run = this.runs[middle];
      if (!run || block < run.first) high = middle;
      else if (block >= run.first + run.count) low = middle + 1;
      else return true;
    }
    return false;
  }

  union(other: ChangeMap): ChangeMap {
    if (other.nrBlocks !== this.nrBlocks) throw new Error('change maps of different sizes');
    const a = this.runs;
    const b = other.runs;
    function* ascending(): Generator<BlockRun> {
      let i = 0;
      let j = 0;
      for (;;) {
        const x = a[i];
        const y = b[j];
        if (x && (!y || x.first <= y.first)) {
          yield x;
          i += 1;
        } else if (y) {
          yield y;
          j += 1;
        } else {
          return;
        }
      }
    }
    return ChangeMap.fromRuns(this.nrBlocks, ascending());
  }

  /** The blocks that are in both. */
  intersection(other: ChangeMap): ChangeMap {
    if (other.nrBlocks !== this.nrBlocks) throw new Error('change maps of different sizes');
    const runs: BlockRun[] = [];
    let i = 0;
    let j = 0;
    for (;;) {
      const a = this.runs[i];
      const b = other.runs[j];
      if (!a || !b) return new ChangeMap(this.nrBlocks, runs);
      const first = Math.max(a.first, b.first);
      const end = Math.min(a.first + a.count, b.first + b.count);
      if (end > first) runs.push({ first, count: end - first });
      if (a.first + a.count < b.first + b.count) i += 1;
      else j += 1;
    }
  }

  /** The blocks of the volume that are not in it. */
  complement(): ChangeMap {
    const runs: BlockRun[] = [];
    let at = 0;
    for (const { first, count } of this.runs) {
      if (first > at) runs.push({ first: at, count: first - at });
      at = first + count;
    }
    if (at < this.nrBlocks) runs.push({ first: at, count: this.nrBlocks - at });
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** With the gaps between runs filled that have fewer than so many blocks. */
  withoutGapsBelow(blocks: number): ChangeMap {
    const runs: BlockRun[] = [];
    for (const run of this.runs) {
      const last = runs.at(-1);
      if (last && run.first - (last.first + last.count) < blocks) {
        last.count = run.first + run.count - last.first;
      } else {
        runs.push({ ...run });
      }
    }
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** Without the blocks before `block`. */
  from(block: number): ChangeMap {
    const kept = this.runs.flatMap((run) => {
      const first = Math.max(run.first, block);
      const count = run.first + run.count - first;
      return count > 0 ? [{ first, count }] : [];
    });
    return new ChangeMap(this.nrBlocks, kept);
  }

  /** Bytes covered on a volume of `sizeBytes`, whose last block may be short. */
  coveredBytes(sizeBytes: bigint): bigint {
    return this.runs.reduce((sum, run) => sum + extentOf(run, sizeBytes).lengthBytes, 0n);
  }

  serialize(): Buffer {
    const buffer = Buffer.alloc(HEADER_SIZE + this.runs.length * ENTRY_SIZE);
    buffer.writeUInt32LE(MAGIC, 0);
    buffer.writeBigUInt64LE(BigInt(this.nrBlocks), 8);
    buffer.writeBigUInt64LE(BigInt(this.runs.length), 16);
    this.runs.forEach((run, i) => {
      buffer.writeBigUInt64LE(BigInt(run.first), HEADER_SIZE + i * ENTRY_SIZE);
      buffer.writeBigUInt64LE(BigInt(run.count), HEADER_SIZE + i * ENTRY_SIZE + 8);
    });
    buffer.writeUInt32LE(crc32(buffer.subarray(8)), 4);
    return buffer;
  }

  /** Throws when the bytes are not exactly what serialize() made. */
  static parse(buffer: Buffer): ChangeMap {
    const sound =
      buffer.length >= HEADER_SIZE &&
      buffer.readUInt32LE(0) === MAGIC &&
      buffer.readUInt32LE(4) === crc32(buffer.subarray(8)) &&
      BigInt(buffer.length - HEADER_SIZE) === buffer.readBigUInt64LE(16) * BigInt(ENTRY_SIZE);
    if (!sound) throw new Error('damaged change map');
    const runs: BlockRun[] = [];
    for (let at = HEADER_SIZE; at < buffer.length; at += ENTRY_SIZE) {
      runs.push({
        first: Number(buffer.readBigUInt64LE(at)),
        count: Number(buffer.readBigUInt64LE(at + 8)),
      });
    }
    return ChangeMap.fromRuns(Number(buffer.readBigUInt64LE(8)), runs);
  }
}

/** A run of blocks in bytes, cut at the end of the volume. */
export function extentOf(
  run: BlockRun,
  sizeBytes: bigint,
): { offsetBytes: bigint; lengthBytes: bigint } {
  const offsetBytes = BigInt(run.first) * BigInt(BLOCK_SIZE);
  const end = BigInt(run.first + run.count) * BigInt(BLOCK_SIZE);
  return { offsetBytes, lengthBytes: (end < sizeBytes ? end : sizeBytes) - offsetBytes };
}

/** Blocks of a volume; the last one may be short. */
export function blocksOf(sizeBytes: bigint): number {
  return Number((sizeBytes + BigInt(BLOCK_SIZE) - 1n) / BigInt(BLOCK_SIZE));
}
