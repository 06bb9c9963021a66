// SPDX-License-Identifier: Apache-2.0
// Blocks of an image as data and holes, and those that are skipped.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { ChangeMap, extentOf } from '../changes/change-map.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { alignedBuffer, readDevice } from '../os/direct-io.js';
import { CHUNK_SIZE, isZero } from './chunks.js';

/** Read and sent at a time; it divides a chunk. Several are in memory for each reader, so that slow ones cost little. */
export const PIECE_SIZE = CHUNK_SIZE / 2;

/** A run of zeros shorter than this is sent as data: a message has its price, too. */
const SMALLEST_HOLE = 64 * 1024;

/** Started before their turn comes at most: small reads each take a thread. */
const MOST_STEPS_AHEAD = 8;

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

function skippedMessage(offsetBytes: bigint, lengthBytes: bigint): ReadBlocksResponse {
  return { content: { $case: 'skipped', value: { offsetBytes, lengthBytes } } };
}

/** A piece of the image that is read, of at most one message, or a part of it that is not. */
interface Step {
  isRead: boolean;
  offset: bigint;
  length: bigint;
}

/** Both maps in ascending order; what is read is cut into pieces. */
function* stepsOf(map: ChangeMap, skipped: ChangeMap, sizeBytes: bigint): Generator<Step> {
  const most = BigInt(PIECE_SIZE);
  let nextSkipped = 0;
  function* skippedBefore(block: number): Generator<Step> {
    for (;;) {
      const run = skipped.runs.at(nextSkipped);
      if (!run || run.first >= block) return;
      nextSkipped += 1;
      const { offsetBytes, lengthBytes } = extentOf(run, sizeBytes);
      yield { isRead: false, offset: offsetBytes, length: lengthBytes };
    }
  }
  for (const run of map.runs) {
    yield* skippedBefore(run.first);
    const { offsetBytes, lengthBytes } = extentOf(run, sizeBytes);
    const end = offsetBytes + lengthBytes;
    let offset = offsetBytes;
    while (offset < end) {
      const boundary = (offset / most + 1n) * most;
      const next = boundary < end ? boundary : end;
      yield { isRead: true, offset, length: next - offset };
      offset = next;
    }
  }
  yield* skippedBefore(Infinity);
}

async function readPiece(file: FileHandle, offset: bigint, length: number): Promise<Buffer> {
  const data = alignedBuffer(length);
  await readDevice(file, data, Number(offset));
  return data;
}

/** A step whose data are under way, if it has any. */
interface StartedStep extends Step {
  data: Promise<Buffer> | undefined;
}

/** Starts steps before their turn comes: reads of one piece at most, or of several that are no longer together. */
class ReadAhead {
  private readonly steps: StartedStep[] = [];
  private ahead = 0n;

  constructor(
    private readonly file: FileHandle,
    private readonly source: Iterator<Step>,
  ) {}

  /** The next step; undefined at the end. Those behind it have been started when its data are there. */
  async next(): Promise<{ step: Step; data: Buffer | undefined } | undefined> {
    this.start();
    const step = this.steps.shift();
    if (!step) return undefined;
    if (!step.isRead) return { step, data: undefined };
    const data = await step.data;
    this.ahead -= step.length;
    this.start();
    return { step, data };
  }

  private start(): void {
    while (this.ahead < BigInt(PIECE_SIZE) && this.steps.length < MOST_STEPS_AHEAD) {
      const next = this.source.next();
      if (next.done === true) return;
      const step = next.value;
      const data = step.isRead ? readPiece(this.file, step.offset, Number(step.length)) : undefined;
      // Awaited when its turn comes; until then a failure must not count as unhandled.
      data?.catch(() => undefined);
      if (step.isRead) this.ahead += step.length;
      this.steps.push({ ...step, data });
    }
  }
}

/**
 * Reads the mapped blocks of an image in ascending order, and tells of the skipped ones in between, which it does not read. The next
 * piece is read while the former is being sent. Holes that touch are joined.
 */
export async function* streamBlocks(
  file: FileHandle,
  map: ChangeMap,
  sizeBytes: bigint,
  skipped = ChangeMap.empty(map.nrBlocks),
): AsyncGenerator<ReadBlocksResponse> {
  let hole: { start: bigint; end: bigint } | undefined;
  const ahead = new ReadAhead(file, stepsOf(map, skipped, sizeBytes));
  for (let next = await ahead.next(); next; next = await ahead.next()) {
    const { step, data } = next;
    const { offset } = step;
    if (!data) {
      if (hole) yield holeMessage(hole.start, hole.end - hole.start);
      hole = undefined;
      yield skippedMessage(offset, step.length);
      continue;
    }
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
  }
  if (hole) yield holeMessage(hole.start, hole.end - hole.start);
}
