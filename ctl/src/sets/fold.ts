// SPDX-License-Identifier: Apache-2.0
// Backups become one. What the later ones hold is written into the file of the first one, which then takes the name of the
// file of the last one: whoever has that one as backing file goes on as before. Meanwhile the last one shows the same content
// at each moment, because it still holds itself what is written below it.
//
// A journal says which backups are about to go, before the first byte is written, and has the manifest of the result. From
// then on all steps may be taken again.
import { readFile, rename, rm, stat } from 'node:fs/promises';
import { z } from 'zod';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { syncDirectory, writeFileAtomically } from '../../../agent/src/os/atomic-file.js';
import { atStep } from '../backup/steps.js';
import { zeroRuns } from '../backup/zero-runs.js';
import type { NbdClient } from '../nbd/client.js';
import { OpenImage } from '../qemu/open-image.js';
import { chunkLength, type ChunkSum } from './chunk-sums.js';
import { exists, syncFile } from '../files.js';
import { partsOf, readHeld } from './held-data.js';
import {
  parseSetManifest,
  serializeSetManifest,
  setManifestSchema,
  type SetManifest,
} from './manifest.js';
import { BackupPaths } from './names.js';
import { readAhead } from './read-ahead.js';
import { SumsReader } from './sums-file.js';

export const foldJournalSchema = z.strictObject({
  /** The backups that go, ascending; the file of the first one becomes that of the result. */
  drop: z.array(z.int().positive()).min(1),
  /** The manifest of the result, which keeps the number of the last backup. */
  manifest: setManifestSchema,
});

export type FoldJournal = z.infer<typeof foldJournalSchema>;

export async function readFoldJournal(directory: string, keep: number): Promise<FoldJournal> {
  const text = await readFile(new BackupPaths(directory, keep).mergeJournal, 'utf8');
  return foldJournalSchema.parse(JSON.parse(text));
}

/** Writes the journal, and does what it says. */
export async function fold(directory: string, journal: FoldJournal): Promise<void> {
  const { mergeJournal } = new BackupPaths(directory, journal.manifest.id);
  await writeFileAtomically(mergeJournal, JSON.stringify(journal));
  atStep('merge-begun');
  await finishFold(directory, journal);
}

/** Does what is left of what a journal says. */
export async function finishFold(directory: string, journal: FoldJournal): Promise<void> {
  const { drop, manifest } = journal;
  const [first = 0, ...between] = drop;
  const keep = new BackupPaths(directory, manifest.id);
  const { image } = new BackupPaths(directory, first);
  if (await exists(image)) {
    await copyAll(directory, image, [...between, manifest.id]);
    await syncFile(image);
    atStep('merge-copied');
    await rename(image, keep.image);
    await syncDirectory(directory);
  }
  atStep('merge-in-place');
  if (await exists(keep.mergedSums)) await rename(keep.mergedSums, keep.sums);
  const { size } = await stat(keep.image);
  await writeFileAtomically(keep.manifest, serializeSetManifest({ ...manifest, file_bytes: size }));
  atStep('merge-manifest-in-place');
  for (const id of drop) {
    const gone = new BackupPaths(directory, id);
    for (const path of [gone.manifest, gone.image, gone.sums]) await rm(path, { force: true });
  }
  await syncDirectory(directory);
  await rm(keep.mergeJournal);
  await syncDirectory(directory);
}

/** Writes what backups hold into the image, in their order. */
async function copyAll(directory: string, image: string, ids: readonly number[]): Promise<void> {
  const to = await OpenImage.open(image);
  try {
    for (const id of ids) await copyHeld(directory, id, to.client);
    await to.client.flush();
  } catch (error) {
    await to.abandon();
    throw error;
  }
  await to.close();
}

async function copyHeld(directory: string, id: number, to: NbdClient): Promise<void> {
  const paths = new BackupPaths(directory, id);
  const manifest: SetManifest = parseSetManifest(await readFile(paths.manifest, 'utf8'));
  const sums = await SumsReader.open(paths.sums, manifest.checksums);
  try {
    const from = await OpenImage.open(paths.image, { readOnly: true, alone: true });
    try {
      const lengthOf = ({ index }: ChunkSum): number => chunkLength(manifest.volume_bytes, index);
      const chunks = readAhead(
        sums.records(),
        (sum) => sum.held.bytes(lengthOf(sum)),
        async (sum) => ({ sum, held: await readHeld(from.client, sum, lengthOf(sum)) }),
      );
      let count = 0;
      for await (const { sum, held } of chunks) {
        for (const { offset, data } of partsOf(held)) {
          await writeSparsely(to, sum.index * CHUNK_SIZE + offset, data);
        }
        count += 1;
        if (count * 2 >= manifest.checksums.chunks) atStep('merge-half-copied');
      }
      // What the next backup writes must not be overtaken by this.
      await to.flush();
    } finally {
      await from.abandon();
    }
  } finally {
    await sums.close();
  }
}

/** Writes data, its blocks of zeros without storing them. */
async function writeSparsely(to: NbdClient, offset: number, data: Buffer): Promise<void> {
  for (const { start, end, zero } of zeroRuns(data)) {
    if (zero) await to.zero(offset + start, end - start);
    else await to.write(offset + start, data.subarray(start, end));
  }
}
