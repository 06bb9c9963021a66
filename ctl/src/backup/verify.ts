// SPDX-License-Identifier: Apache-2.0
// Is a backup what it should be: by its own checksums, and against the image it was made of.
import { open } from 'node:fs/promises';
import type { ChangeMap } from '../../../agent/src/changes/change-map.js';
import { BLOCK_SIZE } from '../../../agent/src/driver/layout.js';
import type { Connection } from '../connection.js';
import { CliError } from '../errors.js';
import { lengthOf, type Blocks } from './blocks.js';
import type { BackupContent, VolumeReader } from './target.js';
import type { Manifest } from './manifest.js';
import { CHUNK_SIZE, isZero } from '../../../agent/src/services/chunks.js';
import { readFully } from './file-io.js';
import { checkInterrupt } from '../interrupt.js';
import { cookieFromManifest } from './manifest.js';
import { Progress, type ShowProgress } from '../progress.js';
import type { Pacer } from './pacer.js';
import { openBlockStream } from './stream.js';

const SHOWN_OFFSETS = 5;

/** The two that were compared are not the same. */
export class DifferenceError extends CliError {}

/** Offsets of what differs: all counted, the first ones kept. */
class Differences {
  private readonly offsets: number[] = [];
  private count = 0;

  constructor(private readonly unit: string) {}

  add(offset: number): void {
    this.count += 1;
    if (this.offsets.length < SHOWN_OFFSETS) this.offsets.push(offset);
  }

  /** Throws DifferenceError when there are any. */
  check(what: string): void {
    if (this.count === 0) return;
    const more = this.count > this.offsets.length ? ' and more' : '';
    throw new DifferenceError(
      `${what}: ${String(this.count)} ${this.unit} differ, at byte ${this.offsets.join(', ')}${more}`,
    );
  }
}

/** Compares a raw file with the checksums in its manifest. */
export async function checkDigests(
  path: string,
  { digests, sizeBytes }: Manifest,
  signal: AbortSignal,
): Promise<void> {
  const differences = new Differences('MiB');
  const progress = new Progress('checksums', sizeBytes);
  const file = await open(path, 'r');
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
  differences.check(`${path} is damaged: file and manifest`);
}

/** What is skipped in the backup may differ. */
async function compare(
  backup: VolumeReader,
  blocks: Blocks,
  skipped: ChangeMap,
  differences: Differences,
): Promise<void> {
  const length = lengthOf(blocks);
  for (let at = 0; at < length; at += CHUNK_SIZE) {
    const here = Buffer.alloc(Math.min(CHUNK_SIZE, length - at));
    await backup.read(here, blocks.offset + at);
    const there = blocks.kind === 'data' ? blocks.data.subarray(at, at + here.length) : undefined;
    if (there ? here.equals(there) : isZero(here)) continue;
    for (let block = 0; block < here.length; block += BLOCK_SIZE) {
      const mine = here.subarray(block, block + BLOCK_SIZE);
      const same = there ? mine.equals(there.subarray(block, block + BLOCK_SIZE)) : isZero(mine);
      const offset = blocks.offset + at + block;
      if (!same && !skipped.has(offset / BLOCK_SIZE)) differences.add(offset);
    }
  }
}

/**
 * Compares a backup with the image of the snapshot that it is a backup of, block by block, but for what is skipped. Rejects with
 * DifferenceError when they differ.
 */
export async function compareWithImage(
  connection: Connection,
  minor: number,
  content: BackupContent,
  signal: AbortSignal,
  showProgress: ShowProgress,
  pacer?: Pacer,
): Promise<void> {
  const cookie = cookieFromManifest(content.cookie);
  const { skipped } = content;
  // A backup that holds everything is compared in full.
  const allocatedOnly = skipped.runs.length > 0;
  const stream = await openBlockStream(connection, { minor, cookie, allocatedOnly }, signal, pacer);
  const differences = new Differences('blocks');
  const progress = showProgress('comparing with the image', Number(stream.header.totalBytes));
  try {
    const reader = await content.open();
    try {
      for await (const blocks of stream.blocks) {
        if (blocks.kind !== 'skipped') await compare(reader, blocks, skipped, differences);
        progress.advance(lengthOf(blocks));
      }
    } finally {
      await reader.close();
    }
  } finally {
    stream.close();
    progress.stop();
  }
  differences.check(`${content.name} is not what the image shows`);
}
