// SPDX-License-Identifier: Apache-2.0
// Is what a backup of a set holds what its checksums say? Each backup is looked at by itself: neither the ones that it builds
// on nor the host are needed.
import { CliError, EXIT, messageOf } from '../errors.js';
import { Progress } from '../progress.js';
import { checkImage } from '../qemu/qcow2.js';
import { requireTools } from '../qemu/tools.js';
import { differingChunks } from './image-content.js';
import { exists } from '../files.js';
import type { SetManifest } from './manifest.js';
import type { BackupSet } from './set.js';
import { SumsReader } from './sums-file.js';

const SHOWN_OFFSETS = 5;

/** What is wrong with the content of a backup whose files are there. */
async function checkContent(
  set: BackupSet,
  backup: SetManifest,
  sums: SumsReader,
  signal: AbortSignal,
): Promise<string[]> {
  const paths = set.paths(backup.id);
  const progress = new Progress(`checksums of backup ${String(backup.id)}`, backup.held_bytes);
  const image = {
    path: paths.image,
    volumeBytes: backup.volume_bytes,
    isFull: backup.parent === null,
  };
  const passed = (bytes: number): void => {
    progress.advance(bytes);
  };
  let damaged: number[];
  try {
    damaged = await differingChunks(image, sums.records(), passed, signal);
  } finally {
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
