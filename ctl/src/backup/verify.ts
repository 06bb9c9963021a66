// SPDX-License-Identifier: Apache-2.0
// Is a backup what it should be: by its own checksums, and against the image it was made of.
import { open, type FileHandle } from 'node:fs/promises';
import type { Connection } from '../connection.js';
import { CliError } from '../errors.js';
import { lengthOf, type Blocks } from './blocks.js';
import type { Destination } from './destination.js';
import { CHUNK_SIZE, isZero } from '../../../agent/src/services/chunks.js';
import { readFully } from './file-io.js';
import { checkInterrupt } from '../interrupt.js';
import { cookieFromManifest } from './manifest.js';
import { Progress } from '../progress.js';
import { openBlockStream } from './stream.js';

const BLOCK_SIZE = 4096;
const SHOWN_OFFSETS = 5;

/** Offsets of what differs: all counted, the first ones kept. */
class Differences {
  private readonly offsets: number[] = [];
  private count = 0;

  constructor(private readonly unit: string) {}

  add(offset: number): void {
    this.count += 1;
    if (this.offsets.length < SHOWN_OFFSETS) this.offsets.push(offset);
  }

  /** Rejects when there are any. */
  check(what: string): void {
    if (this.count === 0) return;
    const more = this.count > this.offsets.length ? ' and more' : '';
    throw new CliError(
      `${what}: ${String(this.count)} ${this.unit} differ, at byte ${this.offsets.join(', ')}${more}`,
    );
  }
}

/** Compares the file with the checksums in its manifest. */
export async function checkDigests(destination: Destination, signal: AbortSignal): Promise<void> {
  const { digests, sizeBytes } = destination.requireManifest();
  const differences = new Differences('MiB');
  const progress = new Progress('checksums', sizeBytes);
  const file = await open(destination.path, 'r');
  const buffer = Buffer.alloc(CHUNK_SIZE);
  try {
    for (let index = 0; index < digests.count; index += 1) {
      checkInterrupt(signal);
      const chunk = buffer.subarray(0, digests.lengthOf(index));
      await readFully(file, chunk, index * CHUNK_SIZE);
      if (!digests.matches(index, chunk)) differences.add(index * CHUNK_SIZE);
      progress.advance(chunk.length);
    }
  } finally {
    await file.close();
    progress.stop();
  }
  differences.check(`${destination.path} is damaged: file and manifest`);
}

async function compare(file: FileHandle, blocks: Blocks, differences: Differences): Promise<void> {
  const length = lengthOf(blocks);
  for (let at = 0; at < length; at += CHUNK_SIZE) {
    const here = Buffer.alloc(Math.min(CHUNK_SIZE, length - at));
    await readFully(file, here, blocks.offset + at);
    const there = blocks.kind === 'data' ? blocks.data.subarray(at, at + here.length) : undefined;
    if (there ? here.equals(there) : isZero(here)) continue;
    for (let block = 0; block < here.length; block += BLOCK_SIZE) {
      const mine = here.subarray(block, block + BLOCK_SIZE);
      const same = there ? mine.equals(there.subarray(block, block + BLOCK_SIZE)) : isZero(mine);
      if (!same) differences.add(blocks.offset + at + block);
    }
  }
}

/** Compares the file with the image of the snapshot that it is a backup of, block by block. */
export async function compareWithImage(
  connection: Connection,
  minor: number,
  destination: Destination,
  signal: AbortSignal,
): Promise<void> {
  const manifest = destination.requireManifest();
  const cookie = cookieFromManifest(manifest.cookie);
  const stream = await openBlockStream(connection, { minor, cookie }, signal);
  const differences = new Differences('blocks');
  const progress = new Progress('comparing with the image', Number(stream.header.totalBytes));
  const file = await open(destination.path, 'r');
  try {
    for await (const blocks of stream.blocks) {
      await compare(file, blocks, differences);
      progress.advance(lengthOf(blocks));
    }
  } finally {
    await file.close();
    progress.stop();
  }
  differences.check(`${destination.path} is not what the image shows`);
}
