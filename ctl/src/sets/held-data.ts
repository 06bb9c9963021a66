// SPDX-License-Identifier: Apache-2.0
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';
import type { Extent, NbdClient } from '../nbd/client.js';
import type { ChunkSum } from './chunk-sums.js';

/** What a backup holds of one chunk. */
export interface HeldData {
  /** Ranges of bytes in the chunk. */
  ranges: readonly Extent[];
  /** Their content, one after the other. */
  data: Buffer;
}

/** Reads what the record of a chunk names; `chunkLength` is that of the whole chunk. */
export async function readHeld(
  image: NbdClient,
  { index, held }: ChunkSum,
  chunkLength: number,
): Promise<HeldData> {
  const ranges = held.ranges(chunkLength);
  const data = Buffer.allocUnsafe(ranges.reduce((sum, { length }) => sum + length, 0));
  const start = index * CHUNK_SIZE;
  let at = 0;
  const reads = ranges.map(({ offset, length }) => {
    const part = data.subarray(at, at + length);
    at += length;
    return image.read(start + offset, part);
  });
  await Promise.all(reads);
  return { ranges, data };
}

/** Is it what the record says? */
export function isIntact({ data }: HeldData, { digest }: ChunkSum): boolean {
  return chunkDigest(data).equals(digest);
}

/** The parts by themselves, each with its place in the chunk. */
export function* partsOf({ ranges, data }: HeldData): Generator<{ offset: number; data: Buffer }> {
  let at = 0;
  for (const { offset, length } of ranges) {
    yield { offset, data: data.subarray(at, at + length) };
    at += length;
  }
}
