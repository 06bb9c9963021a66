// SPDX-License-Identifier: Apache-2.0
// Brings an image of a snapshot up to the next one, by the COW file that names what has changed between them.
import { open, type FileHandle } from 'node:fs/promises';
import { extentOf, type ChangeMap } from '../../agent/src/changes/change-map.js';
import { readChangeMap, readCowHeader } from '../../agent/src/changes/cow-file.js';
import { BLOCK_SIZE } from '../../agent/src/driver/layout.js';
import { CHUNK_SIZE } from '../../agent/src/services/chunks.js';
import { readFully, writeBlocks } from './backup/file-io.js';
import { messageOf } from './errors.js';

/** Why an image cannot be updated, for its user. */
export class UpdateError extends Error {}

/** Which snapshot an image device shows. */
export interface Snapshot {
  uuid: string;
  seqId: bigint;
}

export async function openOrExplain(path: string, flags: string): Promise<FileHandle> {
  return open(path, flags).catch((error: unknown) => {
    throw new UpdateError(`cannot open ${path}: ${messageOf(error)}`);
  });
}

/** Proves that the COW file is that of snapshot `seqId`. */
async function checkCowFile(cowFile: string, { uuid, seqId }: Snapshot): Promise<void> {
  const file = await openOrExplain(cowFile, 'r');
  const header = await readCowHeader(file).finally(() => file.close());
  if (!header) throw new UpdateError(`${cowFile} is no COW file`);
  if (header.uuid !== uuid) {
    throw new UpdateError(
      `${cowFile} belongs to another chain of snapshots: copy the whole device`,
    );
  }
  if (header.seqId !== seqId) {
    throw new UpdateError(
      `${cowFile} is of snapshot ${String(header.seqId)}, and ${String(seqId)} is needed: copy the whole device`,
    );
  }
  if (!header.clean) throw new UpdateError(`${cowFile} is not complete: copy the whole device`);
}

/**
 * Copies the blocks that `cowFile`, the COW file of the snapshot before, names from `source`, of `sizeBytes`, to the image in a file or
 * device of the same size. Nothing is written before all of the COW file has proved right. Resolves with the number of blocks.
 */
export async function updateImage(
  source: FileHandle,
  snapshot: Snapshot,
  sizeBytes: bigint,
  cowFile: string,
  imageFile: string,
): Promise<number> {
  const before = { ...snapshot, seqId: snapshot.seqId - 1n };
  const image = await openOrExplain(imageFile, 'r+');
  try {
    await checkCowFile(cowFile, before);
    const stat = await image.stat();
    if (stat.isFile() && stat.size !== Number(sizeBytes))
      throw new UpdateError(
        `${imageFile} has ${String(stat.size)} bytes, the snapshot ${String(sizeBytes)}: it is no image of it`,
      );
    const map = await readChangeMap(cowFile, before.uuid, before.seqId, sizeBytes);
    return await copyRuns(source, image, map, sizeBytes).catch((error: unknown) => {
      throw new UpdateError(
        `${imageFile} has got a part of the changes only: update it once more when this is mended: ${messageOf(error)}`,
      );
    });
  } finally {
    await image.close();
  }
}

async function copyRuns(
  source: FileHandle,
  image: FileHandle,
  map: ChangeMap,
  sizeBytes: bigint,
): Promise<number> {
  let changed = 0;
  for (const run of map.runs) {
    const { offsetBytes, lengthBytes } = extentOf(run, sizeBytes);
    for (let at = 0; at < Number(lengthBytes); at += CHUNK_SIZE) {
      const data = Buffer.alloc(Math.min(CHUNK_SIZE, Number(lengthBytes) - at));
      const offset = Number(offsetBytes) + at;
      await readFully(source, data, offset);
      await writeBlocks(image, { kind: 'data', offset, data });
      changed += Math.ceil(data.length / BLOCK_SIZE);
    }
  }
  await image.sync();
  return changed;
}
