// SPDX-License-Identifier: Apache-2.0
// The content of an image by itself, compared with its records: those of a backup, or of a part of one.
import { CHUNK_SIZE, zeroDigest } from '../../../agent/src/services/chunks.js';
import { checkInterrupt } from '../interrupt.js';
import type { Extent, NbdClient } from '../nbd/client.js';
import { OpenImage } from '../qemu/open-image.js';
import { BlockSet, chunkLength, type ChunkSum } from './chunk-sums.js';
import { isIntact, readHeld } from './held-data.js';

/** Chunks that are read at a time. */
const READ_AHEAD = 8;

export interface ImageToCheck {
  path: string;
  volumeBytes: number;
  /** It builds on no other one. */
  isFull: boolean;
}

/** Chunks of an image of which something is allocated, ascending. */
async function* allocatedChunks(
  extents: AsyncIterable<Extent>,
): AsyncGenerator<{ index: number; blocks: BlockSet }> {
  let current: { index: number; blocks: BlockSet } | undefined;
  for await (const { offset, length } of extents) {
    for (let at = offset; at < offset + length;) {
      const index = Math.floor(at / CHUNK_SIZE);
      const end = Math.min(offset + length, (index + 1) * CHUNK_SIZE);
      if (current?.index !== index) {
        if (current) yield current;
        current = { index, blocks: new BlockSet() };
      }
      current.blocks.add(at - index * CHUNK_SIZE, end - at);
      at = end;
    }
  }
  if (current) yield current;
}

interface Task {
  index: number;
  sum: ChunkSum | undefined;
  allocated: BlockSet;
}

/** Records and allocation side by side. */
async function* sideBySide(
  sums: AsyncIterable<ChunkSum>,
  allocated: AsyncIterable<{ index: number; blocks: BlockSet }>,
): AsyncGenerator<Task> {
  const left = sums[Symbol.asyncIterator]();
  const right = allocated[Symbol.asyncIterator]();
  let [sum, there] = await Promise.all([left.next(), right.next()]);
  while (sum.done !== true || there.done !== true) {
    const a = sum.done === true ? Infinity : sum.value.index;
    const b = there.done === true ? Infinity : there.value.index;
    const index = Math.min(a, b);
    yield {
      index,
      sum: sum.done !== true && a === index ? sum.value : undefined,
      allocated: there.done !== true && b === index ? there.value.blocks : new BlockSet(),
    };
    if (a === index) sum = await left.next();
    if (b === index) there = await right.next();
  }
}

/** Is the chunk of an image the one that its record describes? */
async function isChunkIntact(
  image: NbdClient,
  { isFull, volumeBytes }: ImageToCheck,
  { index, sum, allocated }: Task,
): Promise<boolean> {
  if (!sum) return false;
  // A full one holds its zeros by not allocating them.
  const there = isFull ? sum.held.union(allocated) : allocated;
  if (!there.equals(sum.held)) return false;
  const length = chunkLength(volumeBytes, index);
  if (allocated.isEmpty) return zeroDigest(sum.held.bytes(length)).equals(sum.digest);
  return isIntact(await readHeld(image, sum, length), sum);
}

/**
 * Offsets of the chunks of which an image does not hold what the records, all that there are, say. `passed` is told of the bytes of
 * each record.
 */
export async function differingChunks(
  image: ImageToCheck,
  records: AsyncIterable<ChunkSum>,
  passed: (bytes: number) => void,
  signal: AbortSignal,
): Promise<number[]> {
  const open = await OpenImage.open(image.path, { readOnly: true, alone: true, allocation: true });
  const damaged: number[] = [];
  try {
    const { client } = open;
    let batch: Task[] = [];
    const checkBatch = async (): Promise<void> => {
      const intact = await Promise.all(batch.map((task) => isChunkIntact(client, image, task)));
      batch.forEach(({ index, sum }, i) => {
        if (intact[i] !== true) damaged.push(index * CHUNK_SIZE);
        passed(sum?.held.bytes(chunkLength(image.volumeBytes, index)) ?? 0);
      });
      batch = [];
    };
    const chunks = allocatedChunks(client.allocated());
    for await (const task of sideBySide(records, chunks)) {
      checkInterrupt(signal);
      if (batch.push(task) === READ_AHEAD) await checkBatch();
    }
    await checkBatch();
  } finally {
    await open.abandon();
  }
  return damaged;
}
