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

/** To read so much in vain costs less than a request of its own. */
const MAX_GAP = 32 << 10;

/** What one request reads: ranges that are near each other. */
interface Stretch {
  offset: number;
  end: number;
  ranges: Extent[];
}

function stretchesOf(ranges: readonly Extent[]): Stretch[] {
  const stretches: Stretch[] = [];
  for (const range of ranges) {
    const { offset, length } = range;
    const last = stretches.at(-1);
    if (last && offset - last.end <= MAX_GAP) {
      last.ranges.push(range);
      last.end = offset + length;
    } else stretches.push({ offset, end: offset + length, ranges: [range] });
  }
  return stretches;
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
  const reads = stretchesOf(ranges).map(async (stretch) => {
    const first = at;
    at = stretch.ranges.reduce((sum, { length }) => sum + length, at);
    const length = stretch.end - stretch.offset;
    if (stretch.ranges.length === 1) {
      await image.read(start + stretch.offset, data.subarray(first, first + length));
      return;
    }
    const buffer = Buffer.allocUnsafe(length);
    await image.read(start + stretch.offset, buffer);
    let to = first;
    for (const range of stretch.ranges) {
      const from = range.offset - stretch.offset;
      to += buffer.copy(data, to, from, from + range.length);
    }
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
