// SPDX-License-Identifier: Apache-2.0
// The checksums of a backup in a set: for each chunk of the volume of which it holds something, which blocks it holds, and the
// SHA-256 of their content, one after the other. A chunk that is held as a whole has the checksum that a raw backup has for it.
import { createHash, type Hash } from 'node:crypto';
import { CHUNK_SIZE, chunkDigest, zeroDigest } from '../../../agent/src/services/chunks.js';
import { lengthOf, type Blocks } from '../backup/blocks.js';
import { CliError } from '../errors.js';
import type { Extent } from '../nbd/client.js';

export const BLOCK_SIZE = 4096;
export const BLOCKS_PER_CHUNK = CHUNK_SIZE / BLOCK_SIZE;
const HELD_SIZE = BLOCKS_PER_CHUNK / 8;

const zeros = Buffer.alloc(CHUNK_SIZE);
const NONE = Buffer.alloc(HELD_SIZE);
const EVERY = Buffer.alloc(HELD_SIZE, 0xff);

/** The blocks of a chunk: a bit for each, the lowest bit of the first byte for the first one. */
export class BlockSet {
  constructor(readonly bits: Buffer = Buffer.alloc(HELD_SIZE)) {}

  has(block: number): boolean {
    return ((this.bits[block >> 3] ?? 0) & (1 << (block & 7))) !== 0;
  }

  get isEmpty(): boolean {
    return this.bits.equals(NONE);
  }

  /** Adds the blocks of a range of bytes of the chunk, which may end within the last one. */
  add(offset: number, length: number): void {
    const end = Math.ceil((offset + length) / BLOCK_SIZE);
    for (let block = offset / BLOCK_SIZE; block < end; block += 1) {
      this.bits[block >> 3] = (this.bits[block >> 3] ?? 0) | (1 << (block & 7));
    }
  }

  union(other: BlockSet): BlockSet {
    return new BlockSet(Buffer.from(this.bits.map((byte, i) => byte | (other.bits[i] ?? 0))));
  }

  equals(other: BlockSet): boolean {
    return this.bits.equals(other.bits);
  }

  /** Ranges of bytes in the chunk, ascending, as long as they can be; `chunkLength` cuts the last one. */
  ranges(chunkLength: number): Extent[] {
    if (this.bits.equals(EVERY)) return [{ offset: 0, length: chunkLength }];
    const ranges: Extent[] = [];
    let start = -1;
    for (let block = 0; block <= BLOCKS_PER_CHUNK; block += 1) {
      const held = block < BLOCKS_PER_CHUNK && this.has(block);
      if (held && start < 0) start = block;
      if (!held && start >= 0) {
        const offset = start * BLOCK_SIZE;
        ranges.push({ offset, length: Math.min(block * BLOCK_SIZE, chunkLength) - offset });
        start = -1;
      }
    }
    return ranges;
  }

  /** Bytes of the blocks. */
  bytes(chunkLength: number): number {
    return this.ranges(chunkLength).reduce((sum, { length }) => sum + length, 0);
  }
}

/** The record of one chunk. */
export interface ChunkSum {
  index: number;
  held: BlockSet;
  digest: Buffer;
}

/** Bytes of a chunk of a volume: the last one may be shorter. */
export function chunkLength(volumeBytes: number, index: number): number {
  return Math.min(CHUNK_SIZE, volumeBytes - index * CHUNK_SIZE);
}

/** The digest of what is held of a chunk, out of a buffer with the whole chunk. */
export function heldDigest(chunk: Buffer, held: BlockSet): Buffer {
  const ranges = held.ranges(chunk.length);
  const [first] = ranges;
  if (ranges.length === 1 && first) {
    return chunkDigest(chunk.subarray(first.offset, first.offset + first.length));
  }
  const hash = createHash('sha256');
  for (const { offset, length } of ranges) hash.update(chunk.subarray(offset, offset + length));
  return hash.digest();
}

/** Makes the records of a backup while its blocks, which ascend, pass by. */
export class ChunkHasher {
  private index = -1;
  private held = new BlockSet();
  private hash: Hash | undefined;
  private end = 0;
  /** Bytes that are held, and of those the ones that came as data. */
  heldBytes: number;
  dataBytes: number;
  /** `dataBytes` at the beginning of the chunk that is open. */
  private dataBytesBefore = 0;

  /** `former`: what came before a byte, the end of a chunk, and whose records there are. */
  constructor(
    private readonly volumeBytes: number,
    former = { offsetBytes: 0, heldBytes: 0, dataBytes: 0 },
  ) {
    this.end = former.offsetBytes;
    this.heldBytes = former.heldBytes;
    this.dataBytes = former.dataBytes;
  }

  /** The end of the last chunk of which nothing can come any more. */
  get settledBytes(): number {
    const isEnd = this.end === this.volumeBytes;
    return isEnd ? this.end : Math.floor(this.end / CHUNK_SIZE) * CHUNK_SIZE;
  }

  /** The record of the chunk before that end, if it was not given yet. */
  *settle(): Generator<ChunkSum> {
    if (this.index >= 0 && this.index * CHUNK_SIZE < this.settledBytes) yield* this.complete();
  }

  /** Bytes before that end that came as data; settle() comes before. */
  get settledDataBytes(): number {
    return this.index < 0 ? this.dataBytes : this.dataBytesBefore;
  }

  /** Takes blocks; gives the records of the chunks that are complete by that. */
  *add(blocks: Blocks): Generator<ChunkSum> {
    const length = lengthOf(blocks);
    const end = blocks.offset + length;
    const isAligned = end % BLOCK_SIZE === 0 || end === this.volumeBytes;
    if (
      blocks.offset < this.end ||
      blocks.offset % BLOCK_SIZE !== 0 ||
      !isAligned ||
      length === 0
    ) {
      throw new CliError(
        `the stream has no whole blocks, or not in order, at byte ${String(blocks.offset)}`,
      );
    }
    if (end > this.volumeBytes) throw new CliError('the stream is longer than the volume');
    this.end = end;
    if (blocks.kind === 'skipped') return;
    for (let at = blocks.offset; at < end;) {
      const index = Math.floor(at / CHUNK_SIZE);
      if (index !== this.index) {
        yield* this.complete();
        this.dataBytesBefore = this.dataBytes;
      }
      this.index = index;
      const start = at - index * CHUNK_SIZE;
      const n = Math.min(end - at, CHUNK_SIZE - start);
      this.heldBytes += n;
      if (blocks.kind === 'data') this.dataBytes += n;
      this.held.add(start, n);
      if (blocks.kind === 'hole' && n === chunkLength(this.volumeBytes, index)) {
        yield { index, held: this.held, digest: zeroDigest(n) };
        this.begin();
      } else {
        const from = at - blocks.offset;
        this.hash ??= createHash('sha256');
        this.hash.update(
          blocks.kind === 'data' ? blocks.data.subarray(from, from + n) : zeros.subarray(0, n),
        );
      }
      at += n;
    }
  }

  /** The record of the last chunk, if there is one. */
  *complete(): Generator<ChunkSum> {
    if (this.hash) yield { index: this.index, held: this.held, digest: this.hash.digest() };
    this.begin();
  }

  private begin(): void {
    this.index = -1;
    this.held = new BlockSet();
    this.hash = undefined;
  }
}
