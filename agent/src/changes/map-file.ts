// SPDX-License-Identifier: Apache-2.0
// A change map as a file: a header of magic number, checksum, blocks of the volume and number of runs; then each run's first block
// and its number of blocks. Made and read part by part: a map can have millions of runs.
import { crc32 } from 'node:zlib';
import { ChangeMap } from './change-map.js';
import { RunList } from './run-list.js';

const MAGIC = 0x4d43_4c45;
const HEADER_SIZE = 24;
const RUN_SIZE = 16;
const RUNS_PER_PART = 4096;
const UINT32 = 2 ** 32;

const damaged = (): Error => new Error('damaged change map');

// Two halves cost less than a BigInt, and numbers of blocks are below 2^53.
function writeNumber(buffer: Buffer, value: number, at: number): void {
  buffer.writeUInt32LE(value % UINT32, at);
  buffer.writeUInt32LE(Math.floor(value / UINT32), at + 4);
}

function readNumber(buffer: Buffer, at: number): number {
  return buffer.readUInt32LE(at) + buffer.readUInt32LE(at + 4) * UINT32;
}

function* partsOf({ runs }: ChangeMap): Generator<Buffer> {
  for (let next = 0; next < runs.length; next += RUNS_PER_PART) {
    const part = Buffer.alloc(Math.min(RUNS_PER_PART, runs.length - next) * RUN_SIZE);
    for (let at = 0, i = next; at < part.length; at += RUN_SIZE, i += 1) {
      writeNumber(part, runs.firstOf(i), at);
      writeNumber(part, runs.countOf(i), at + 8);
    }
    yield part;
  }
}

/** The content of the file, in parts. */
export function* serializeChangeMap(map: ChangeMap): Generator<Buffer> {
  const header = Buffer.alloc(HEADER_SIZE);
  header.writeUInt32LE(MAGIC, 0);
  writeNumber(header, map.nrBlocks, 8);
  writeNumber(header, map.runs.length, 16);
  let checksum = crc32(header.subarray(8));
  for (const part of partsOf(map)) checksum = crc32(part, checksum);
  header.writeUInt32LE(checksum, 4);
  yield header;
  yield* partsOf(map);
}

/** Cuts bytes that come in parts of any length into a header and parts of whole runs. */
async function* wholeRuns(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  let hasHeader = false;
  for await (const part of parts) {
    rest = Buffer.concat([rest, part]);
    if (!hasHeader && rest.length >= HEADER_SIZE) {
      yield rest.subarray(0, HEADER_SIZE);
      rest = rest.subarray(HEADER_SIZE);
      hasHeader = true;
    }
    if (!hasHeader) continue;
    const whole = rest.length - (rest.length % RUN_SIZE);
    yield rest.subarray(0, whole);
    rest = rest.subarray(whole);
  }
  if (!hasHeader || rest.length > 0) throw damaged();
}

/** Rejects when the bytes are not exactly what serializeChangeMap() made. */
export async function parseChangeMap(parts: AsyncIterable<Buffer>): Promise<ChangeMap> {
  let header: Buffer | undefined;
  let checksum = 0;
  const runs = new RunList();
  let count = 0;
  for await (const part of wholeRuns(parts)) {
    if (!header) {
      if (part.readUInt32LE(0) !== MAGIC) throw damaged();
      header = part;
      checksum = crc32(header.subarray(8));
      continue;
    }
    checksum = crc32(part, checksum);
    for (let at = 0; at < part.length; at += RUN_SIZE) {
      runs.add(readNumber(part, at), readNumber(part, at + 8));
    }
    count += part.length / RUN_SIZE;
  }
  if (header?.readUInt32LE(4) !== checksum || readNumber(header, 16) !== count) throw damaged();
  return ChangeMap.fromRuns(readNumber(header, 8), runs);
}
