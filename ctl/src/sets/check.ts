// SPDX-License-Identifier: Apache-2.0
// Is what a backup of a set holds what its checksums say? Each backup is looked at by itself: neither the ones that it builds
// on nor the host are needed.
import { CHUNK_SIZE, zeroDigest } from '../../../agent/src/services/chunks.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { checkInterrupt } from '../interrupt.js';
import type { Extent, NbdClient } from '../nbd/client.js';
import { Progress } from '../progress.js';
import { OpenImage } from '../qemu/open-image.js';
import { checkImage } from '../qemu/qcow2.js';
import { requireTools } from '../qemu/tools.js';
import { BlockSet, chunkLength, type ChunkSum } from './chunk-sums.js';
import { exists } from './files.js';
import { isIntact, readHeld } from './held-data.js';
import type { SetManifest } from './manifest.js';
import type { BackupSet } from './set.js';
import { SumsReader } from './sums-file.js';

/** Chunks that are read at a time. */
const READ_AHEAD = 8;
const SHOWN_OFFSETS = 5;

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
  backup: SetManifest,
  { index, sum, allocated }: Task,
): Promise<boolean> {
  if (!sum) return false;
  // A full one holds its zeros by not allocating them.
  const there = backup.parent === null ? sum.held.union(allocated) : allocated;
  if (!there.equals(sum.held)) return false;
  const length = chunkLength(backup.volume_bytes, index);
  if (allocated.isEmpty) return zeroDigest(sum.held.bytes(length)).equals(sum.digest);
  return isIntact(await readHeld(image, sum, length), sum);
}

/** What is wrong with the content of a backup whose files are there. */
async function checkContent(
  set: BackupSet,
  backup: SetManifest,
  sums: SumsReader,
  signal: AbortSignal,
): Promise<string[]> {
  const paths = set.paths(backup.id);
  const progress = new Progress(`checksums of backup ${String(backup.id)}`, backup.held_bytes);
  const image = await OpenImage.open(paths.image, {
    readOnly: true,
    alone: true,
    allocation: true,
  });
  const damaged: number[] = [];
  try {
    const { client } = image;
    let batch: Task[] = [];
    const checkBatch = async (): Promise<void> => {
      const intact = await Promise.all(batch.map((task) => isChunkIntact(client, backup, task)));
      batch.forEach(({ index, sum }, i) => {
        if (intact[i] !== true) damaged.push(index * CHUNK_SIZE);
        progress.advance(sum?.held.bytes(chunkLength(backup.volume_bytes, index)) ?? 0);
      });
      batch = [];
    };
    const chunks = allocatedChunks(client.allocated());
    for await (const task of sideBySide(sums.records(), chunks)) {
      checkInterrupt(signal);
      if (batch.push(task) === READ_AHEAD) await checkBatch();
    }
    await checkBatch();
  } finally {
    await image.abandon();
    progress.stop();
  }
  if (damaged.length === 0) return [];
  const shown = damaged.slice(0, SHOWN_OFFSETS).join(', ');
  const more = damaged.length > SHOWN_OFFSETS ? ' and more' : '';
  return [
    `${paths.imageName} is altered: ${String(damaged.length)} MiB of the volume differ, at byte ${shown}${more}`,
  ];
}

/** All that is wrong with the files of one backup; nothing: it is whole. Rejects when it is interrupted or tools are missing. */
export async function checkBackup(
  set: BackupSet,
  backup: SetManifest,
  signal: AbortSignal,
): Promise<string[]> {
  const problems = await set.lookAt(backup);
  const paths = set.paths(backup.id);
  const areThere = (await exists(paths.image)) && (await exists(paths.sums));
  if (!areThere) return problems;
  let sums: SumsReader;
  try {
    sums = await SumsReader.open(paths.sums, backup.checksums);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return [...problems, `${paths.sumsName} is altered: it has not the checksum in its manifest`];
  }
  try {
    const structure = await checkImage(paths.image);
    if (structure !== undefined) problems.push(`${paths.imageName} is altered: ${structure}`);
    problems.push(...(await checkContent(set, backup, sums, signal)));
  } catch (error) {
    // An image that cannot even be read.
    if (error instanceof CliError && error.exitCode !== EXIT.failed) throw error;
    problems.push(`${paths.imageName} cannot be read: ${messageOf(error)}`);
  } finally {
    await sums.close();
  }
  return problems;
}

/** Rejects with CliError when something is wrong with a backup, or with one that it builds on. */
export async function checkChain(
  set: BackupSet,
  backup: SetManifest,
  signal: AbortSignal,
): Promise<void> {
  await requireTools();
  for (const one of await set.soundChainOf(backup)) {
    const [problem] = await checkBackup(set, one, signal);
    if (problem !== undefined) {
      throw new CliError(`${set.nameOf(backup.id)} is damaged: ${problem}`);
    }
  }
}
