// SPDX-License-Identifier: Apache-2.0
// What an interrupted run has left in the directory of a set: it is finished if it was complete, and deleted if it was not. A
// backup whose transfer can go on stays for the next `elioctl backup`; all others leave it where it is. What it builds on is the
// newest backup, which stays that whatever is pruned or merged meanwhile: its content is the same, and so is its name.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { finishDrop, putInPlace } from './commit.js';
import { exists } from '../files.js';
import { finishFold, readFoldJournal } from './fold.js';
import { readProgress, type ProgressRecord } from '../backup/progress-record.js';
import { BackupPaths, parseName, PROGRESS_SUFFIX } from './names.js';

interface Leftover {
  path: string;
  id: number;
  suffix: string;
}

/** Files that are not those of a complete backup. Foreign ones do not count. */
async function leftoversIn(directory: string): Promise<Leftover[]> {
  const found: Leftover[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const parsed = parseName(name);
    const isWhole = parsed && ['.qcow2', '.sums', '.json'].includes(parsed.suffix);
    if (parsed && !isWhole) found.push({ path: join(directory, name), ...parsed });
  }
  return found;
}

export async function hasLeftovers(directory: string): Promise<boolean> {
  return (await leftoversIn(directory)).length > 0;
}

/** A backup whose transfer can go on. */
export interface UnfinishedBackup {
  id: number;
  record: ProgressRecord;
}

/** The one that there is; undefined: none. */
export async function findUnfinished(directory: string): Promise<UnfinishedBackup | undefined> {
  const leftovers = await leftoversIn(directory);
  for (const { path, id, suffix } of leftovers.reverse()) {
    if (suffix !== PROGRESS_SUFFIX) continue;
    const paths = new BackupPaths(directory, id);
    const isThere = (await exists(paths.partialImage)) && (await exists(paths.partialSums));
    const isComplete = (await exists(paths.partialManifest)) || (await exists(paths.manifest));
    const record = isThere && !isComplete ? await readProgress(path) : undefined;
    if (record) return { id, record };
  }
  return undefined;
}

/** Those that recover() does not leave where they are. */
async function filesToRecover(directory: string): Promise<Leftover[]> {
  const unfinished = await findUnfinished(directory);
  const kept = unfinished && new BackupPaths(directory, unfinished.id);
  const keptPaths = [kept?.partialImage, kept?.partialSums, kept?.progress];
  return (await leftoversIn(directory)).filter(({ path }) => !keptPaths.includes(path));
}

export async function needsRecovery(directory: string): Promise<boolean> {
  return (await filesToRecover(directory)).length > 0;
}

/** Is one of the complete backups about to go? */
export async function hasUnfinishedMerge(directory: string): Promise<boolean> {
  return (await leftoversIn(directory)).some(({ suffix }) => suffix === '.merge');
}

/** Nobody else may use the set meanwhile. May be repeated. */
export async function recover(directory: string): Promise<void> {
  const leftovers = await filesToRecover(directory);
  const withSuffix = (suffix: string): Leftover[] => leftovers.filter((l) => l.suffix === suffix);
  for (const { id } of withSuffix('.json.partial')) await putInPlace(directory, id);
  for (const { id } of withSuffix('.json.dropped')) await finishDrop(directory, id);
  for (const { id } of withSuffix('.merge')) {
    await finishFold(directory, await readFoldJournal(directory, id));
  }
  for (const { path, id, suffix } of leftovers) {
    const isUnfinished = suffix.endsWith('.tmp') || suffix.endsWith('.partial');
    // Checksums of a merge that has not begun.
    const isIdle =
      suffix === '.sums.merge' && !(await exists(new BackupPaths(directory, id).mergeJournal));
    if (isUnfinished || isIdle) await rm(path, { force: true });
  }
}
