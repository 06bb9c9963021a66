// SPDX-License-Identifier: Apache-2.0
// The files of a backup that is being made: the image that takes the blocks of a stream, and their checksums.
import { rm, stat } from 'node:fs/promises';
import { lengthOf, type Blocks } from '../backup/blocks.js';
import { CliError } from '../errors.js';
import type { NbdClient } from '../nbd/client.js';
import { OpenImage } from '../qemu/open-image.js';
import { createImage } from '../qemu/qcow2.js';
import { ChunkHasher, type ChunkSum } from './chunk-sums.js';
import { syncFile } from './files.js';
import { BackupPaths } from './names.js';
import { SumsWriter, type SumsSummary } from './sums-file.js';

/** What the files have become. */
export interface Layer {
  sums: SumsSummary;
  fileBytes: number;
  heldBytes: number;
  dataBytes: number;
}

/** Deletes what there is of an unfinished backup. */
export async function removeParts(paths: BackupPaths): Promise<void> {
  for (const path of [paths.partialManifest, paths.partialImage, paths.partialSums]) {
    await rm(path, { force: true });
  }
}

/**
 * Writes a stream into new files, and puts them on disk. Without a parent the stream has to cover the whole volume. Rejects
 * with what the stream rejects with, or with an error of the system.
 */
export async function writeLayer(
  paths: BackupPaths,
  blocks: AsyncIterable<Blocks>,
  volumeBytes: number,
  parent: BackupPaths | undefined,
): Promise<Layer> {
  await createImage(paths.partialImage, volumeBytes, parent?.imageName);
  const sums = await SumsWriter.create(paths.partialSums);
  try {
    const image = await OpenImage.open(paths.partialImage);
    const writer = new LayerWriter(image.client, sums, volumeBytes, parent === undefined);
    try {
      for await (const piece of blocks) await writer.write(piece);
      await writer.finish();
    } catch (error) {
      await image.abandon();
      throw error;
    }
    await image.close();
    await syncFile(paths.partialImage);
    return {
      sums: await sums.finish(),
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
  private coveredBytes = 0;

  constructor(
    private readonly image: NbdClient,
    private readonly sums: SumsWriter,
    private readonly volumeBytes: number,
    private readonly isFull: boolean,
  ) {
    this.hasher = new ChunkHasher(volumeBytes);
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
