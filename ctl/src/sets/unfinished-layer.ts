// SPDX-License-Identifier: Apache-2.0
// The files of an unfinished backup of a set, when the transfer into it goes on.
import { blocksOf, ChangeMap } from '../../../agent/src/changes/change-map.js';
import { RunList } from '../../../agent/src/changes/run-list.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import type { LayerProof } from '../backup/progress-record.js';
import { skippedFromManifest } from '../backup/skipped.js';
import { atStep } from '../backup/steps.js';
import { CliError } from '../errors.js';
import { Progress } from '../progress.js';
import { cutImage, readHeader, repairLeaks } from '../qemu/qcow2.js';
import { whenFree } from '../qemu/tools.js';
import { BLOCK_SIZE, chunkLength, type ChunkSum } from './chunk-sums.js';
import { differingChunks } from './image-content.js';
import type { BackupPaths } from './names.js';
import { cutSums, SumsReader, type SumsSummary } from './sums-file.js';

/** What is there of a backup: all that it holds before a byte, the end of a chunk. */
export interface LayerPart {
  offsetBytes: number;
  heldBytes: number;
  dataBytes: number;
  sums: SumsSummary;
  sent: ChangeMap;
  skipped: ChangeMap;
}

/** Collects which blocks records tell of. */
class HeldBlocks {
  private readonly runs = new RunList();

  constructor(private readonly volumeBytes: number) {}

  async *watch(records: AsyncIterable<ChunkSum>): AsyncGenerator<ChunkSum> {
    for await (const record of records) {
      const start = record.index * CHUNK_SIZE;
      for (const range of record.held.ranges(chunkLength(this.volumeBytes, record.index))) {
        const first = (start + range.offset) / BLOCK_SIZE;
        this.runs.add(first, Math.ceil(range.length / BLOCK_SIZE));
      }
      yield record;
    }
  }

  get map(): ChangeMap {
    return ChangeMap.fromRuns(blocksOf(BigInt(this.volumeBytes)), this.runs);
  }
}

/**
 * Cuts off what the files hold behind a byte, and compares what they hold before it with the checksums. QEMU writes the structure of an
 * image in an order in which a crash leaves no more than clusters that nothing refers to; those are set free, and anything else that
 * qemu-img finds is damage. Rejects with CliError when there is any.
 */
export async function cutLayer(
  paths: BackupPaths,
  volumeBytes: number,
  parent: BackupPaths | undefined,
  offsetBytes: number,
  proof: LayerProof,
  signal: AbortSignal,
): Promise<LayerPart> {
  const path = paths.partialImage;
  const problem = await whenFree(() => repairLeaks(path));
  if (problem !== undefined) throw new CliError(`${path} is damaged: ${problem}`);
  await cutImage(path, offsetBytes, volumeBytes);
  await cutSums(paths.partialSums, proof);
  const header = await readHeader(path);
  if (header.backingFile !== parent?.imageName || header.sizeBytes !== volumeBytes) {
    throw new CliError(`${path} is damaged: it is an image of another kind`);
  }
  const sums = { chunks: proof.chunks, sha256: proof.sha256 };
  const reader = await SumsReader.open(paths.partialSums, sums);
  const progress = new Progress('checksums of what is there', offsetBytes);
  const blocks = new HeldBlocks(volumeBytes);
  let damaged: number[];
  try {
    const image = { path, volumeBytes, isFull: parent === undefined };
    const passed = (bytes: number): void => {
      progress.advance(bytes);
    };
    damaged = await differingChunks(image, blocks.watch(reader.records()), passed, signal);
  } finally {
    progress.stop();
    await reader.close();
  }
  if (damaged.length > 0) {
    throw new CliError(`${path} is damaged: ${String(damaged.length)} MiB of the volume differ`);
  }
  const sent = blocks.map;
  const skipped = skippedFromManifest(proof.skipped, volumeBytes);
  const gap = sent.union(skipped).complement().runs.at(0)?.first ?? Infinity;
  if (!parent && gap * BLOCK_SIZE < offsetBytes) {
    throw new CliError(`${path} is damaged: blocks of the volume are missing`);
  }
  atStep('unfinished-proven');
  const heldBytes = Number(sent.coveredBytes(BigInt(volumeBytes)));
  return { offsetBytes, heldBytes, dataBytes: proof.data_bytes, sums, sent, skipped };
}
