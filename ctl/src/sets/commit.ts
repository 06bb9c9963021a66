// SPDX-License-Identifier: Apache-2.0
// The last steps of a new backup, and those of one that is deleted: each may be taken again after a crash.
import { rename, rm } from 'node:fs/promises';
import { syncDirectory } from '../../../agent/src/os/atomic-file.js';
import { atStep } from '../backup/steps.js';
import { exists } from '../files.js';
import { BackupPaths } from './names.js';
import { removeProgress } from '../backup/progress-record.js';

/** All files are complete and on disk, with the ends of their names still those of unfinished ones. The manifest comes last. */
export async function putInPlace(directory: string, id: number): Promise<void> {
  const paths = new BackupPaths(directory, id);
  await removeProgress(paths.progress);
  if (await exists(paths.partialImage)) await rename(paths.partialImage, paths.image);
  atStep('layer-in-place');
  if (await exists(paths.partialSums)) await rename(paths.partialSums, paths.sums);
  await syncDirectory(directory);
  await rename(paths.partialManifest, paths.manifest);
  await syncDirectory(directory);
}

/** Deletes a backup that no other one needs. */
export async function drop(directory: string, id: number): Promise<void> {
  const paths = new BackupPaths(directory, id);
  await rename(paths.manifest, paths.dropped);
  await syncDirectory(directory);
  atStep('drop-begun');
  await finishDrop(directory, id);
}

/** Deletes what is left of a backup whose deletion has begun. */
export async function finishDrop(directory: string, id: number): Promise<void> {
  const paths = new BackupPaths(directory, id);
  await rm(paths.image, { force: true });
  atStep('drop-half-done');
  await rm(paths.sums, { force: true });
  await rm(paths.dropped, { force: true });
  await syncDirectory(directory);
}
