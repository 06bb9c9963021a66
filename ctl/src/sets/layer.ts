// SPDX-License-Identifier: Apache-2.0
// The files of a backup that is being made: the image that takes the blocks of a stream, and their checksums.
import { rm, stat } from 'node:fs/promises';
import { blocksOf, ChangeMap } from '../../../agent/src/changes/change-map.js';
import { lengthOf, type Blocks } from '../backup/blocks.js';
import { removeProgress, type Progress, type ProgressRecorder } from '../backup/progress-record.js';
import { Coverage } from '../backup/skipped.js';
import { CliError } from '../errors.js';
import type { NbdClient } from '../nbd/client.js';
import { OpenImage } from '../qemu/open-image.js';
import { createImage } from '../qemu/qcow2.js';
import { ChunkHasher, type ChunkSum } from './chunk-sums.js';
import { syncFile } from '../files.js';
import { BackupPaths } from './names.js';
import { SumsWriter, type SumsSummary } from './sums-file.js';
import type { LayerPart } from './unfinished-layer.js';

/** What the files have become. */
export interface Layer {
  sums: SumsSummary;
  coverage: Coverage;
  fileBytes: number;
  heldBytes: number;
  dataBytes: number;
}

/** Deletes what there is of an unfinished backup. */
export async function removeParts(paths: BackupPaths): Promise<void> {
  await removeProgress(paths.progress);
  for (const path of [paths.partialManifest, paths.partialImage, paths.partialSums]) {
    await rm(path, { force: true });
  }
}

/**
 * Writes a stream into new files, or behind what there is of a backup already, and puts them on disk. Without a parent all of that has
 * to cover the whole volume. Rejects with what the stream rejects with, or with an error of the system.
 */
export async function writeLayer(
  paths: BackupPaths,
  blocks: AsyncIterable<Blocks>,
  volumeBytes: number,
  parent: BackupPaths | undefined,
  former: LayerPart | undefined,
  recorder: ProgressRecorder | undefined,
): Promise<Layer> {
  if (!former) await createImage(paths.partialImage, volumeBytes, parent?.imageName);
  const sums = former
    ? await SumsWriter.continue(paths.partialSums, former.sums)
    : await SumsWriter.create(paths.partialSums);
  const none = ChangeMap.empty(blocksOf(BigInt(volumeBytes)));
  const coverage = Coverage.after(volumeBytes, former?.sent ?? none, former?.skipped ?? none);
  try {
    const image = await OpenImage.open(paths.partialImage);
    const isFull = parent === undefined;
    const writer = new LayerWriter(image.client, sums, volumeBytes, isFull, former);
    try {
      for await (const piece of coverage.watch(blocks)) {
        await writer.write(piece);
        await recorder?.passed(lengthOf(piece), () => writer.sync(coverage));
      }
      await writer.finish();
    } catch (error) {
      await image.abandon();
      throw error;
    }
    await image.close();
    await syncFile(paths.partialImage);
    return {
      sums: await sums.finish(),
      coverage,
      fileBytes: (await stat(paths.partialImage)).size,
      ...writer.bytes,
    };
  } catch (error) {
    await sums.abandon();
    throw error;
  }
}

class LayerWriter {
  private readonly hasher: ChunkHasher;
  private coveredBytes: number;

  constructor(
    private readonly image: NbdClient,
    private readonly sums: SumsWriter,
    private readonly volumeBytes: number,
    private readonly isFull: boolean,
    former: LayerPart | undefined,
  ) {
    this.hasher = new ChunkHasher(volumeBytes, former);
    this.coveredBytes = former?.offsetBytes ?? 0;
  }

  /** Puts all on disk that nothing is added to any more. */
  async sync(coverage: Coverage): Promise<Progress> {
    await this.record(this.hasher.settle());
    const { settledBytes: offset, settledDataBytes: dataBytes } = this.hasher;
    await this.image.flush();
    return {
      offset_bytes: offset,
      proof: {
        of: 'layer',
        ...(await this.sums.sync()),
        skipped: coverage.skippedBefore(offset),
        data_bytes: dataBytes,
      },
    };
  }

  async write(blocks: Blocks): Promise<void> {
    await this.record(this.hasher.add(blocks));
    this.coveredBytes += lengthOf(blocks);
    switch (blocks.kind) {
      case 'data':
        await this.image.write(blocks.offset, blocks.data);
        break;
      case 'hole':
        // What a new image does not hold is zero already.
        if (!this.isFull) await this.image.zero(blocks.offset, blocks.length);
        break;
      case 'skipped':
        break;
    }
  }

  private async record(sums: Iterable<ChunkSum>): Promise<void> {
    for (const sum of sums) if (this.sums.add(sum)) await this.sums.drain();
  }

  async finish(): Promise<void> {
    await this.record(this.hasher.complete());
    if (this.isFull && this.coveredBytes !== this.volumeBytes) {
      throw new CliError(
        `${String(this.coveredBytes)} of ${String(this.volumeBytes)} bytes of the volume came: run the command again`,
      );
    }
    await this.image.flush();
  }

  get bytes(): { heldBytes: number; dataBytes: number } {
    const { heldBytes, dataBytes } = this.hasher;
    return { heldBytes, dataBytes };
  }
}
