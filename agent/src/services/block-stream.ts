// SPDX-License-Identifier: Apache-2.0
// Blocks of an image as data and holes, and those that are skipped.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { ChangeMap, extentOf } from '../changes/change-map.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { BatchReader } from '../os/batch-reader.js';
import { alignedBuffer } from '../os/direct-io.js';
import type { Extent } from '../../../proto/gen/elio/v1/types.js';
import { whenSerialized } from './block-messages.js';
import { CHUNK_SIZE, isZero } from './chunks.js';
import { scatteredMessage, type DataPiece } from './stream-pieces.js';

/** Read and sent at a time; it divides a chunk. Several are in memory for each reader, so that slow ones cost little. */
export const PIECE_SIZE = CHUNK_SIZE / 2;

/** A run of zeros shorter than this is sent as data, and shorter reads share a message: each has its price. */
const SMALLEST_HOLE = 64 * 1024;

/** Started before their turn comes at most. */
const MOST_BATCHES_AHEAD = 8;

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

function dataMessage({ offset, data }: DataPiece): ReadBlocksResponse {
  const value = { offsetBytes: BigInt(offset), data, crc32: crc32(data) };
  return { content: { $case: 'data', value } };
}

function extent({ offset, length }: Range): Extent {
  return { offsetBytes: BigInt(offset), lengthBytes: BigInt(length) };
}

function holeMessage(hole: Range): ReadBlocksResponse {
  return { content: { $case: 'hole', value: extent(hole) } };
}

function skippedMessage(skipped: Range): ReadBlocksResponse {
  return { content: { $case: 'skipped', value: extent(skipped) } };
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

/** What is read at once and sent in one message, or a run that is skipped. */
interface Batch {
  isRead: boolean;
  /** Ascending; several small ones, or a single one. */
  ranges: Range[];
  bytes: number;
}

/** Small steps that follow each other, together; every other one by itself. */
function* batchesOf(steps: Iterable<Step>): Generator<Batch> {
  let small: Batch = { isRead: true, ranges: [], bytes: 0 };
  for (const { isRead, offset, length } of steps) {
    const range = { offset: Number(offset), length: Number(length) };
    const isSmall = isRead && range.length < SMALLEST_HOLE;
    if (small.ranges.length > 0 && (!isSmall || small.bytes + range.length > PIECE_SIZE)) {
      yield small;
      small = { isRead: true, ranges: [], bytes: 0 };
    }
    if (isSmall) {
      small.ranges.push(range);
      small.bytes += range.length;
    } else {
      yield { isRead, ranges: [range], bytes: range.length };
    }
  }
  if (small.ranges.length > 0) yield small;
}

/** Starts batches before their turn comes: the next one, or several that are smaller than that together. */
class ReadAhead {
  private readonly batches: { batch: Batch; data: Promise<Buffer> | undefined }[] = [];
  private ahead = 0;
  /** Fresh memory costs more than to read zeros does: what held them takes the next piece. */
  private readonly spare: Buffer[] = [];

  constructor(
    private readonly reader: BatchReader,
    private readonly source: Iterator<Batch>,
  ) {}

  /** The next batch; undefined at the end. Those behind it have been started when its data are there. */
  async next(): Promise<{ batch: Batch; data: Buffer | undefined } | undefined> {
    this.start();
    const next = this.batches.shift();
    if (!next) return undefined;
    const { batch } = next;
    if (!batch.isRead) return { batch, data: undefined };
    const data = await next.data;
    this.ahead -= batch.bytes;
    this.start();
    return { batch, data };
  }

  /** Takes the buffer of a batch that nobody reads any more. */
  giveBack(data: Buffer): void {
    if (data.length === PIECE_SIZE) this.spare.push(data);
  }

  /** The content of a batch, one range after the other. */
  private async read({ ranges, bytes }: Batch): Promise<Buffer> {
    const content = (bytes === PIECE_SIZE ? this.spare.pop() : undefined) ?? alignedBuffer(bytes);
    let at = 0;
    const reads = ranges.map(({ offset, length }) => {
      // Only the volume's last block may be short, and nothing comes behind it: all begin where direct I/O wants them.
      const data = content.subarray(at, at + length);
      at += length;
      return { position: offset, data };
    });
    await this.reader.read(reads);
    return content;
  }

  private start(): void {
    while (this.ahead < PIECE_SIZE && this.batches.length < MOST_BATCHES_AHEAD) {
      const next = this.source.next();
      if (next.done === true) return;
      const batch = next.value;
      const data = batch.isRead ? this.read(batch) : undefined;
      // Awaited when its turn comes; until then a failure must not count as unhandled.
      data?.catch(() => undefined);
      if (batch.isRead) this.ahead += batch.bytes;
      this.batches.push({ batch, data });
    }
  }
}

/** The pieces of a batch, ascending: its data, and its zeros where they are worth a hole. */
function* piecesOf({ ranges }: Batch, content: Buffer): Generator<DataPiece | Range> {
  let start = 0;
  for (const { offset, length } of ranges) {
    const data = content.subarray(start, start + length);
    start += length;
    let at = 0;
    for (const hole of [...holesIn(data), { offset: length, length: 0 }]) {
      if (hole.offset > at) yield { offset: offset + at, data: data.subarray(at, hole.offset) };
      if (hole.length > 0) yield { offset: offset + hole.offset, length: hole.length };
      at = hole.offset + hole.length;
    }
  }
}

/** Pieces of a batch between which there is no hole: their data touch in memory. */
function messageOf(pieces: readonly DataPiece[]): ReadBlocksResponse | undefined {
  const [first, ...more] = pieces;
  if (!first || more.length === 0) return first && dataMessage(first);
  const { buffer, byteOffset } = first.data;
  const bytes = pieces.reduce((sum, { data }) => sum + data.length, 0);
  return scatteredMessage(pieces, Buffer.from(buffer, byteOffset, bytes));
}

/** Makes messages of pieces that ascend: holes that touch become one, and so do the data of a batch. */
class Messages {
  private hole: Range | undefined;
  private data: DataPiece[] = [];

  /** Those of a batch, but for a hole at its end, which may go on in the next. */
  *of(batch: Batch, content: Buffer): Generator<ReadBlocksResponse> {
    for (const piece of piecesOf(batch, content)) yield* this.add(piece);
    yield* this.endData();
  }

  private *add(piece: DataPiece | Range): Generator<ReadBlocksResponse> {
    if ('data' in piece) {
      yield* this.endHole();
      this.data.push(piece);
      return;
    }
    yield* this.endData();
    const { hole } = this;
    if (hole && hole.offset + hole.length === piece.offset) {
      hole.length += piece.length;
      return;
    }
    yield* this.endHole();
    this.hole = { ...piece };
  }

  *endHole(): Generator<ReadBlocksResponse> {
    if (this.hole) yield holeMessage(this.hole);
    this.hole = undefined;
  }

  private *endData(): Generator<ReadBlocksResponse> {
    const message = messageOf(this.data);
    if (message) yield message;
    this.data = [];
  }
}

/**
 * Reads the mapped blocks of an image in ascending order, and tells of the skipped ones in between, which it does not read. What is
 * next is read while the former is being sent. Holes that touch are joined. A message's data are overwritten once it has been
 * serialized.
 */
export async function* streamBlocks(
  file: FileHandle,
  map: ChangeMap,
  sizeBytes: bigint,
  skipped = ChangeMap.empty(map.nrBlocks),
): AsyncGenerator<ReadBlocksResponse> {
  const messages = new Messages();
  const reader = new BatchReader(file);
  const ahead = new ReadAhead(reader, batchesOf(stepsOf(map, skipped, sizeBytes)));
  try {
    for (let next = await ahead.next(); next; next = await ahead.next()) {
      const { batch, data } = next;
      if (data) {
        let readers = 1;
        const done = (): void => {
          readers -= 1;
          if (readers === 0) ahead.giveBack(data);
        };
        for (const message of messages.of(batch, data)) {
          readers += 1;
          whenSerialized(message, done);
          yield message;
        }
        done();
      } else {
        yield* messages.endHole();
        for (const range of batch.ranges) yield skippedMessage(range);
      }
    }
    yield* messages.endHole();
  } finally {
    await reader.close();
  }
}
