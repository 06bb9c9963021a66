// SPDX-License-Identifier: Apache-2.0
// Prepares a merge: verifies all that it is going to copy, and all of what it changes, and makes the checksums of the result.
// Nothing has been touched when it finds something wrong.
import { rm, statfs } from 'node:fs/promises';
import { CHUNK_SIZE, isZero } from '../../../agent/src/services/chunks.js';
import { atStep } from '../backup/steps.js';
import { CliError, EXIT } from '../errors.js';
import { checkInterrupt } from '../interrupt.js';
import { formatBytes } from '../output.js';
import { Progress } from '../progress.js';
import { OpenImage } from '../qemu/open-image.js';
import { BLOCK_SIZE, chunkLength, heldDigest, type ChunkSum } from './chunk-sums.js';
import { fold, type FoldJournal } from './fold.js';
import { isIntact, partsOf, readHeld, type HeldData } from './held-data.js';
import { checksumsOf, type SetManifest } from './manifest.js';
import { readAhead } from './read-ahead.js';
import type { BackupSet } from './set.js';
import { storageError } from './storage-error.js';
import { SumsReader, SumsWriter } from './sums-file.js';

/** Backups that are merged in one go: each has a qemu-nbd while they are verified. */
export const MAX_RUN = 16;

/** qcow2 has a table of one cluster for so much of a volume; and some more for itself. */
const TABLE_BYTES = 128 << 10;
const TABLE_COVERS = 1 << 30;
const SLACK_BYTES = 1 << 20;

/** A backup whose records are taken one by one. */
class Layer {
  private constructor(
    readonly backup: SetManifest,
    private readonly name: string,
    private readonly sums: SumsReader,
    private readonly records: AsyncGenerator<ChunkSum>,
    private readonly image: OpenImage,
  ) {}

  /** The next record; undefined: there is none any more. */
  next: ChunkSum | undefined;

  static async open(set: BackupSet, backup: SetManifest): Promise<Layer> {
    const paths = set.paths(backup.id);
    const sums = await SumsReader.open(paths.sums, backup.checksums);
    try {
      const image = await OpenImage.open(paths.image, { readOnly: true, alone: true });
      const layer = new Layer(backup, paths.imageName, sums, sums.records(), image);
      await layer.advance();
      return layer;
    } catch (error) {
      await sums.close();
      throw error;
    }
  }

  async advance(): Promise<void> {
    const result = await this.records.next();
    this.next = result.done === true ? undefined : result.value;
  }

  /** What the backup holds of the chunk of a record; rejects when that is not what the record says. */
  async read(sum: ChunkSum, length: number): Promise<HeldData> {
    const held = await readHeld(this.image.client, sum, length);
    if (isIntact(held, sum)) return held;
    throw new CliError(
      `${this.name} is altered at byte ${String(sum.index * CHUNK_SIZE)} of the volume: nothing was merged; see elioctl backups check`,
    );
  }

  async close(): Promise<void> {
    await this.sums.close();
    await this.image.abandon();
  }
}

/** Room that the merge of a chunk can need in the file of the lowest layer: blocks that are data above and not in it. */
function roomFor(parts: readonly { isLowest: boolean; held: HeldData }[]): number {
  const lowest = new Set<number>();
  const above = new Set<number>();
  for (const { isLowest, held } of parts) {
    for (const { offset, data } of partsOf(held)) {
      for (let at = 0; at < data.length; at += BLOCK_SIZE) {
        const isData = !isZero(data.subarray(at, at + BLOCK_SIZE));
        if (isData) (isLowest ? lowest : above).add(offset + at);
      }
    }
  }
  return [...above].filter((block) => !lowest.has(block)).length * BLOCK_SIZE;
}

/** The record of a chunk in one layer. */
interface Part {
  layer: Layer;
  sum: ChunkSum;
}

/** A chunk of which a layer holds something. */
interface Chunk {
  index: number;
  length: number;
  /** The lowest layer first. */
  parts: readonly Part[];
}

/** All of them, ascending. */
async function* chunksOf(layers: readonly Layer[], volumeBytes: number): AsyncGenerator<Chunk> {
  for (;;) {
    const index = Math.min(...layers.map(({ next }) => next?.index ?? Infinity));
    if (index === Infinity) return;
    const parts: Part[] = [];
    for (const layer of layers) {
      if (layer.next?.index !== index) continue;
      parts.push({ layer, sum: layer.next });
      await layer.advance();
    }
    yield { index, length: chunkLength(volumeBytes, index), parts };
  }
}

/** What is neither copied nor changed keeps its checksum, and is not read. */
function isUntouched({ parts }: Chunk, lowest: Layer | undefined): boolean {
  return parts.length === 1 && parts[0]?.layer === lowest;
}

/**
 * The record of a chunk after the merge, and the room that it needs. `contents` are those of its parts; in the buffer, which is
 * as long as the chunk, they are put together.
 */
function mergedSum(
  { parts }: Chunk,
  contents: readonly HeldData[],
  lowest: Layer | undefined,
  buffer: Buffer,
): { sum: ChunkSum | undefined; roomBytes: number } {
  let sum: ChunkSum | undefined;
  const read: { isLowest: boolean; held: HeldData }[] = [];
  for (const [i, part] of parts.entries()) {
    const held = contents[i];
    if (!held) continue;
    for (const { offset, data } of partsOf(held)) data.copy(buffer, offset);
    read.push({ isLowest: part.layer === lowest, held });
    if (sum) {
      const all = sum.held.union(part.sum.held);
      sum = { ...part.sum, held: all, digest: heldDigest(buffer, all) };
    } else ({ sum } = part);
  }
  return { sum, roomBytes: roomFor(read) };
}

/** Rejects when the disk would be full in the middle of it. */
async function checkRoom(directory: string, roomBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free >= roomBytes) return;
  throw new CliError(
    `${directory} is full: the merge needs ${formatBytes(BigInt(roomBytes))} for a while, and ${formatBytes(BigInt(free))} are free; nothing was merged`,
  );
}

/** Verifies a run and writes the checksums of the result. */
async function verifyRun(
  set: BackupSet,
  run: readonly SetManifest[],
  result: SetManifest,
  signal: AbortSignal,
): Promise<SetManifest> {
  const paths = set.paths(result.id);
  const layers: Layer[] = [];
  const progress = new Progress('verifying', result.volume_bytes);
  const sums = await SumsWriter.create(paths.mergedSums);
  const scratch = Buffer.alloc(CHUNK_SIZE);
  try {
    for (const backup of run) layers.push(await Layer.open(set, backup));
    let heldBytes = 0;
    let neededBytes = SLACK_BYTES;
    const tables = new Set<number>();
    let done = 0;
    const [lowest] = layers;
    const chunks = readAhead(
      chunksOf(layers, result.volume_bytes),
      ({ parts, length }) => parts.reduce((bytes, { sum }) => bytes + sum.held.bytes(length), 0),
      async (chunk) => {
        const parts = isUntouched(chunk, lowest) ? [] : chunk.parts;
        const reads = parts.map(({ layer, sum }) => layer.read(sum, chunk.length));
        return { chunk, contents: await Promise.all(reads) };
      },
    );
    for await (const { chunk, contents } of chunks) {
      checkInterrupt(signal);
      const { index, length, parts } = chunk;
      const { sum, roomBytes } = isUntouched(chunk, lowest)
        ? { sum: parts[0]?.sum, roomBytes: 0 }
        : mergedSum(chunk, contents, lowest, scratch.subarray(0, length));
      if (roomBytes > 0) tables.add(Math.floor((index * CHUNK_SIZE) / TABLE_COVERS));
      neededBytes += roomBytes;
      heldBytes += sum?.held.bytes(length) ?? 0;
      if (sum && sums.add(sum)) await sums.drain();
      progress.advance(index * CHUNK_SIZE + length - done);
      done = index * CHUNK_SIZE + length;
    }
    const checksums = checksumsOf(paths, await sums.finish());
    await checkRoom(set.directory, neededBytes + tables.size * TABLE_BYTES);
    const [first] = run;
    const dataBytes = run.reduce((sum, { data_bytes: bytes }) => sum + bytes, 0);
    return {
      ...result,
      parent: first?.parent ?? null,
      held_bytes: heldBytes,
      data_bytes: Math.min(dataBytes, heldBytes),
      checksums,
    };
  } catch (error) {
    await sums.abandon();
    await rm(paths.mergedSums, { force: true });
    throw error;
  } finally {
    progress.stop();
    for (const layer of layers) await layer.close();
  }
}

/**
 * Merges backups of a chain that follow each other into the last of them, whose content stays what it is. Rejects with
 * CliError; then all backups are what they were, unless the file of one of them could not be written: the next run goes on.
 */
export async function mergeRun(
  set: BackupSet,
  run: readonly SetManifest[],
  signal: AbortSignal,
): Promise<void> {
  const { directory } = set;
  const [first] = run;
  const result = run.at(-1);
  if (!first || !result || run.length < 2) return;
  checkFoldable(set, run);
  try {
    await set.soundChainOf(result);
    await checkWritable(set, first);
    const manifest = await verifyRun(set, run, result, signal);
    atStep('merge-verified');
    checkInterrupt(signal);
    const drop = run.slice(0, -1).map(({ id }) => id);
    const journal: FoldJournal = { drop, manifest };
    await fold(directory, journal);
    await set.load();
  } catch (error) {
    throw storageError(error, directory);
  }
}

/** Rejects with busy when another program, such as a virtual machine, has the file open. */
async function checkWritable(set: BackupSet, backup: SetManifest): Promise<void> {
  const image = await OpenImage.open(set.paths(backup.id).image);
  await image.abandon();
}

/** Rejects when more than the next one of the run builds on a backup that is going to disappear. */
function checkFoldable(set: BackupSet, run: readonly SetManifest[]): void {
  const needed = run.slice(0, -1).find(({ id }) => set.childrenOf(id).length > 1);
  if (!needed) return;
  throw new CliError(
    `backup ${String(needed.id)} cannot be merged into its successor: several backups build on it`,
    EXIT.state,
  );
}

/** The earlier one of the two backups and the later one, which stays; rejects with the reason why that cannot be. */
export function mergePair(
  set: BackupSet,
  id: number,
  into: 'successor' | 'predecessor',
): [SetManifest, SetManifest] {
  const backup = set.require(id);
  let pair: [SetManifest, SetManifest];
  if (into === 'predecessor') {
    if (backup.parent === null) {
      throw new CliError(
        `backup ${String(id)} is a full one: it builds on no other, and there is nothing to merge it with`,
        EXIT.state,
      );
    }
    pair = [set.require(backup.parent), backup];
  } else {
    const [child] = set.childrenOf(id);
    if (!child) {
      throw new CliError(
        `backup ${String(id)} cannot be merged into its successor: no backup builds on it`,
        EXIT.state,
      );
    }
    pair = [backup, child];
  }
  checkFoldable(set, pair);
  return pair;
}
