// SPDX-License-Identifier: Apache-2.0
// Blocks of an image as data and holes.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { extentOf, type ChangeMap } from '../changes/change-map.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { alignedBuffer, readDevice } from '../os/direct-io.js';
import { CHUNK_SIZE, isZero } from './chunks.js';

/** Read and sent at a time; it divides a chunk. Several are in memory for each reader, so that slow ones cost little. */
const PIECE_SIZE = CHUNK_SIZE / 2;

/** A run of zeros shorter than this is sent as data: a message has its price, too. */
const SMALLEST_HOLE = 64 * 1024;

interface Range {
  offset: number;
  length: number;
}

/** The parts of `data` that are worth a hole of their own, ascending. */
function holesIn(data: Buffer): Range[] {
  if (isZero(data)) return [{ offset: 0, length: data.length }];
  const holes: Range[] = [];
  let start = -1;
  for (let at = 0; at <= data.length; at += BLOCK_SIZE) {
    // Most blocks that are not zero show it in their first byte, which costs no call.
    const zero = data[at] === 0 && isZero(data.subarray(at, at + BLOCK_SIZE));
    if (zero && start < 0) start = at;
    if (!zero && start >= 0) {
      const length = Math.min(at, data.length) - start;
      if (length >= SMALLEST_HOLE) holes.push({ offset: start, length });
      start = -1;
    }
    if (at < data.length && at + BLOCK_SIZE > data.length) {
      // The volume ends within a block; whatever hole there is ends with it.
      if (start >= 0 && data.length - start >= SMALLEST_HOLE) {
        holes.push({ offset: start, length: data.length - start });
      }
      break;
    }
  }
  return holes;
}

function dataMessage(offset: bigint, data: Buffer): ReadBlocksResponse {
  return {
    content: { $case: 'data', value: { offsetBytes: offset, data, crc32: crc32(data) } },
  };
}

function holeMessage(offsetBytes: bigint, lengthBytes: bigint): ReadBlocksResponse {
  return { content: { $case: 'hole', value: { offsetBytes, lengthBytes } } };
}

/** What is to be read, in pieces of at most one message. */
function* pieces(map: ChangeMap, sizeBytes: bigint): Generator<{ offset: bigint; length: number }> {
  const most = BigInt(PIECE_SIZE);
  for (const run of map.runs) {
    const { offsetBytes, lengthBytes } = extentOf(run, sizeBytes);
    const end = offsetBytes + lengthBytes;
    let offset = offsetBytes;
    while (offset < end) {
      const boundary = (offset / most + 1n) * most;
      const next = boundary < end ? boundary : end;
      yield { offset, length: Number(next - offset) };
      offset = next;
    }
  }
}

async function readPiece(file: FileHandle, offset: bigint, length: number): Promise<Buffer> {
  const data = alignedBuffer(length);
  await readDevice(file, data, Number(offset));
  return data;
}

/**
 * Reads the mapped blocks of an image in ascending order. The next piece is read while the former is
 * being sent. Holes that touch are joined.
 */
export async function* streamBlocks(
  file: FileHandle,
  map: ChangeMap,
  sizeBytes: bigint,
): AsyncGenerator<ReadBlocksResponse> {
  let hole: { start: bigint; end: bigint } | undefined;
  const iterator = pieces(map, sizeBytes);
  const start = (): { offset: bigint; data: Promise<Buffer> } | undefined => {
    const next = iterator.next();
    if (next.done === true) return undefined;
    const { offset, length } = next.value;
    const data = readPiece(file, offset, length);
    // Awaited when its turn comes; until then a failure must not count as unhandled.
    data.catch(() => undefined);
    return { offset, data };
  };
  let current = start();
  while (current) {
    const { offset } = current;
    const data = await current.data;
    const next = start();
    let at = 0;
    for (const range of [...holesIn(data), { offset: data.length, length: 0 }]) {
      if (range.offset > at) {
        if (hole) yield holeMessage(hole.start, hole.end - hole.start);
        hole = undefined;
        yield dataMessage(offset + BigInt(at), data.subarray(at, range.offset));
      }
      at = range.offset + range.length;
      if (range.length === 0) continue;
      const from = offset + BigInt(range.offset);
      const to = offset + BigInt(at);
      if (hole?.end === from) {
        hole.end = to;
      } else {
        if (hole) yield holeMessage(hole.start, hole.end - hole.start);
        hole = { start: from, end: to };
      }
    }
    current = next;
  }
  if (hole) yield holeMessage(hole.start, hole.end - hole.start);
}
