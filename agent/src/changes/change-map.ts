// SPDX-License-Identifier: Apache-2.0
import { BLOCK_SIZE } from '../driver/layout.js';
import { RunList, type BlockRun } from './run-list.js';

/** A set of blocks of a volume, those that changed between two snapshot instants, say: ascending runs that never touch. */
export class ChangeMap {
  private constructor(
    readonly nrBlocks: number,
    readonly runs: RunList,
  ) {}

  static empty(nrBlocks: number): ChangeMap {
    return new ChangeMap(nrBlocks, new RunList());
  }

  static full(nrBlocks: number): ChangeMap {
    return ChangeMap.fromRuns(nrBlocks, [{ first: 0, count: nrBlocks }]);
  }

  /** Runs in ascending order of their first block; they may overlap. */
  static fromRuns(nrBlocks: number, runs: Iterable<BlockRun>): ChangeMap {
    if (runs instanceof RunList && runs.end <= nrBlocks) return new ChangeMap(nrBlocks, runs);
    const list = new RunList();
    for (const { first, count } of runs) list.add(first, Math.min(first + count, nrBlocks) - first);
    return new ChangeMap(nrBlocks, list);
  }

  has(block: number): boolean {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (block < this.runs.firstOf(middle)) high = middle;
      else if (block >= this.runs.endOf(middle)) low = middle + 1;
      else return true;
    }
    return false;
  }

  union(other: ChangeMap): ChangeMap {
    if (other.nrBlocks !== this.nrBlocks) throw new Error('change maps of different sizes');
    const a = this.runs;
    const b = other.runs;
    if (a.length === 0) return other;
    if (b.length === 0) return this;
    const runs = new RunList(a.length + b.length);
    let i = 0;
    let j = 0;
    while (i < a.length || j < b.length) {
      if (j === b.length || (i < a.length && a.firstOf(i) <= b.firstOf(j))) {
        runs.add(a.firstOf(i), a.countOf(i));
        i += 1;
      } else {
        runs.add(b.firstOf(j), b.countOf(j));
        j += 1;
      }
    }
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** The blocks that are in both. */
  intersection(other: ChangeMap): ChangeMap {
    if (other.nrBlocks !== this.nrBlocks) throw new Error('change maps of different sizes');
    const runs = new RunList();
    const a = this.runs;
    const b = other.runs;
    for (let i = 0, j = 0; i < a.length && j < b.length;) {
      const first = Math.max(a.firstOf(i), b.firstOf(j));
      runs.add(first, Math.min(a.endOf(i), b.endOf(j)) - first);
      if (a.endOf(i) < b.endOf(j)) i += 1;
      else j += 1;
    }
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** The blocks of the volume that are not in it. */
  complement(): ChangeMap {
    const runs = new RunList();
    let at = 0;
    for (const { first, count } of this.runs) {
      runs.add(at, first - at);
      at = first + count;
    }
    runs.add(at, this.nrBlocks - at);
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** With the gaps between runs filled that have fewer than so many blocks. */
  withoutGapsBelow(blocks: number): ChangeMap {
    const runs = new RunList();
    for (const { first, count } of this.runs) {
      const gap = first - runs.end;
      if (runs.length > 0 && gap < blocks) runs.add(runs.end, gap + count);
      else runs.add(first, count);
    }
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** Without the blocks before `block`. */
  from(block: number): ChangeMap {
    if (block === 0) return this;
    const runs = new RunList();
    for (const { first, count } of this.runs) {
      const start = Math.max(first, block);
      runs.add(start, first + count - start);
    }
    return new ChangeMap(this.nrBlocks, runs);
  }

  /** Bytes covered on a volume of `sizeBytes`, whose last block may be short. */
  coveredBytes(sizeBytes: bigint): bigint {
    let blocks = 0;
    for (const { count } of this.runs) blocks += count;
    const beyond =
      this.runs.end === this.nrBlocks ? BigInt(this.nrBlocks * BLOCK_SIZE) - sizeBytes : 0n;
    return BigInt(blocks * BLOCK_SIZE) - beyond;
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
