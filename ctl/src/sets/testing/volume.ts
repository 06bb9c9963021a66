// SPDX-License-Identifier: Apache-2.0
// A volume in memory that changes at random, and the streams that an agent would send of it.
import { CHUNK_SIZE, isZero } from '../../../../agent/src/services/chunks.js';
import { randomNumbers } from '../../../../agent/src/testing/random.js';
import { lengthOf, type Blocks } from '../../backup/blocks.js';
import type { OriginDetails } from '../../backup/target.js';
import { BLOCK_SIZE, chunkLength } from '../chunk-sums.js';

/** Runs of zeros that come as holes; shorter ones come as data, as from an agent. */
const SMALLEST_HOLE = 64 * 1024;

export const ORIGIN: OriginDetails = {
  host: 'db1',
  machineId: 'a'.repeat(32),
  blockDevice: '/dev/vdb1',
  stableId: 'PARTUUID=1',
  agentVersion: '0.1.0',
  moduleVersion: '0.1.0',
  kernelRelease: '6.1.0',
};

export class Volume {
  readonly content: Buffer;
  private readonly random: (limit: number) => number;
  private changed = new Set<number>();
  /** Blocks that the filesystem does not use. */
  unused = new Set<number>();

  /** Half of it is zero. */
  constructor(
    seed: number,
    readonly sizeBytes: number,
  ) {
    this.random = randomNumbers(seed);
    this.content = Buffer.alloc(sizeBytes);
    for (let i = 0; i < this.blocks; i += 16) if (this.random(2) === 0) this.write(i, 16);
    this.changed.clear();
  }

  private get blocks(): number {
    return Math.ceil(this.sizeBytes / BLOCK_SIZE);
  }

  private range(first: number, count: number): [number, number] {
    return [first * BLOCK_SIZE, Math.min((first + count) * BLOCK_SIZE, this.sizeBytes)];
  }

  private mark(first: number, count: number): void {
    for (let i = first; i < Math.min(first + count, this.blocks); i += 1) this.changed.add(i);
  }

  private write(first: number, count: number): void {
    const [start, end] = this.range(first, count);
    for (let at = start; at < end; at += 4) {
      const n = Math.min(4, end - at);
      this.content.writeUIntLE(this.random(2 ** 31), at, n < 4 ? n : 4);
    }
    this.mark(first, count);
  }

  /** Overwrites and zeroes some blocks, single ones, runs, and now and then the last one. */
  change(writes: number): void {
    this.changed.clear();
    for (let i = 0; i < writes; i += 1) {
      const first = this.random(8) === 0 ? this.blocks - 1 : this.random(this.blocks);
      const count = this.random(4) === 0 ? 1 + this.random(600) : 1;
      if (this.random(4) === 0) {
        const [start, end] = this.range(first, count);
        this.content.fill(0, start, end);
        this.mark(first, count);
      } else this.write(first, count);
    }
  }

  /** All of it. */
  async *full(): AsyncGenerator<Blocks> {
    for (let i = 0; i * CHUNK_SIZE < this.sizeBytes; i += 1) {
      const start = i * CHUNK_SIZE;
      yield* this.pieces(start, start + chunkLength(this.sizeBytes, i));
      await Promise.resolve();
    }
  }

  /** What change() has changed, as it is now. */
  async *increment(): AsyncGenerator<Blocks> {
    const blocks = [...this.changed].sort((a, b) => a - b);
    for (let i = 0; i < blocks.length;) {
      const first = blocks[i] ?? 0;
      let end = first;
      while (blocks[i] === end) {
        i += 1;
        end += 1;
        if ((end * BLOCK_SIZE) % CHUNK_SIZE === 0) break;
      }
      yield* this.pieces(...this.range(first, end - first));
      await Promise.resolve();
    }
  }

  /** Data or a hole, with the blocks in it that are not used as skipped. */
  *allocatedOf(piece: Blocks): Generator<Blocks> {
    const first = piece.offset / BLOCK_SIZE;
    const last = Math.ceil((piece.offset + lengthOf(piece)) / BLOCK_SIZE);
    for (let block = first; block < last;) {
      const isUnused = this.unused.has(block);
      let end = block;
      while (end < last && this.unused.has(end) === isUnused) end += 1;
      const [offset, endOffset] = this.range(block, end - block);
      const length = endOffset - offset;
      const start = offset - piece.offset;
      if (isUnused) yield { kind: 'skipped', offset, length };
      else if (piece.kind !== 'data') yield { kind: piece.kind, offset, length };
      else yield { kind: 'data', offset, data: piece.data.subarray(start, start + length) };
      block = end;
    }
  }

  /** A range within a MiB as data and holes. */
  private *pieces(start: number, end: number): Generator<Blocks> {
    for (let at = start; at < end;) {
      const zero = this.isZeroAt(at, end);
      let next = at;
      while (next < end && this.isZeroAt(next, end) === zero) next += SMALLEST_HOLE;
      next = Math.min(next, end);
      if (zero) yield { kind: 'hole', offset: at, length: next - at };
      else yield { kind: 'data', offset: at, data: Buffer.from(this.content.subarray(at, next)) };
      at = next;
    }
  }

  private isZeroAt(at: number, end: number): boolean {
    return isZero(this.content.subarray(at, Math.min(at + SMALLEST_HOLE, end)));
  }
}

/** The cookie of a volume's n-th snapshot. */
export function cookieOf(seqId: number): { uuid: string; seq_id: number; nonce: string } {
  return { uuid: 'c'.repeat(32), seq_id: seqId, nonce: 'd'.repeat(32) };
}

/** The volume after so many rounds of changes. */
export function volumeAfter(seed: number, sizeBytes: number, rounds: number): Volume {
  const volume = new Volume(seed, sizeBytes);
  for (let i = 0; i < rounds; i += 1) volume.change(12);
  return volume;
}
