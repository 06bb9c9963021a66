// SPDX-License-Identifier: Apache-2.0
// The sub-commands of `backups`: they work on a set without any agent.
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { confirm } from '../confirm.js';
import { CliError, EXIT } from '../errors.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';
import { formatBytes, formatTable } from '../output.js';
import { note } from '../progress.js';
import { requireTools } from '../qemu/tools.js';
import { checkBackup } from '../sets/check.js';
import type { SetManifest } from '../sets/manifest.js';
import { mergePair, mergeRun } from '../sets/merge.js';
import { mountImage, mountInstructions, mountedDevice, unmountImage } from '../sets/mount.js';
import { setPlace, type SetPlace } from '../sets/names.js';
import { prune as carryOut } from '../sets/prune.js';
import { planPrune, type PrunePlan } from '../sets/retention.js';
import { BackupSet } from '../sets/set.js';

export interface SetOptions {
  output: OutputForm;
}

export interface PruneOptions extends SetOptions {
  keepLast?: number;
  keepDays?: number;
  yes?: true;
  dryRun?: true;
}

export interface MergeOptions extends SetOptions {
  into: 'successor' | 'predecessor';
  yes?: true;
  dryRun?: true;
}

export interface MountOptions {
  unmount?: true;
  dryRun?: true;
}

const MOUNT_POLL_MS = 1000;

function placeOf(text: string): SetPlace {
  const place = setPlace(text);
  if (place) return place;
  throw new CliError(`${text}: there is no such directory`, EXIT.notFound);
}

function print(form: OutputForm, json: unknown, text: string): void {
  const output = form === 'json' ? JSON.stringify(json) : text;
  if (output !== '') process.stdout.write(`${output}\n`);
}

async function withSet<T>(
  directory: string,
  use: 'read' | 'write',
  task: (set: BackupSet) => Promise<T>,
): Promise<T> {
  const set = await BackupSet.open(directory, use);
  try {
    return await task(set);
  } finally {
    await set.close();
  }
}

const typeOf = ({ parent }: SetManifest): string => (parent === null ? 'full' : 'incremental');

/** What a backup takes on its disk; null: its file is not there. */
async function allocatedBytes(set: BackupSet, { id }: SetManifest): Promise<number | null> {
  const file = await stat(set.paths(id).image).catch(() => undefined);
  return file ? file.blocks * 512 : null;
}

async function listEntry(set: BackupSet, backup: SetManifest): Promise<object> {
  const left = new Set(['format', 'checksums', 'tools']);
  const keys = Object.entries(backup).filter(([key]) => !left.has(key));
  return {
    ...Object.fromEntries(keys),
    type: typeOf(backup),
    allocated_bytes: await allocatedBytes(set, backup),
  };
}

const LIST_COLUMNS = ['ID', 'TYPE', 'PARENT', 'CREATED', 'HOST', 'DEVICE', 'VOLUME', 'ON DISK'];

async function listCells(set: BackupSet, backup: SetManifest): Promise<string[]> {
  const allocated = await allocatedBytes(set, backup);
  return [
    String(backup.id),
    typeOf(backup),
    backup.parent === null ? '' : String(backup.parent),
    backup.created,
    backup.host,
    backup.block_device,
    formatBytes(BigInt(backup.volume_bytes)),
    allocated === null ? 'missing' : formatBytes(BigInt(allocated)),
  ];
}

export async function list(text: string, { output }: SetOptions): Promise<void> {
  const { directory } = placeOf(text);
  const { set, unfinished } = await BackupSet.glance(directory);
  const json = await Promise.all(set.backups.map((one) => listEntry(set, one)));
  const rows = await Promise.all(set.backups.map((one) => listCells(set, one)));
  for (const { id, why } of set.unreadable) {
    note(`the manifest of backup ${String(id)} cannot be read: ${why}`);
  }
  for (const name of await set.orphans())
    note(`${name} has no manifest: see elioctl backups check`);
  if (unfinished) note('a run is under way, or an interrupted one has left something for the next');
  print(output, json, formatTable(LIST_COLUMNS, rows));
}

export async function show(text: string, { output }: SetOptions): Promise<void> {
  const { directory, id } = placeOf(text);
  const { set } = await BackupSet.glance(directory);
  const manifest = set.require(id);
  const chain = set.chainOf(manifest).map((one) => one.id);
  const rows = Object.entries({ ...manifest, chain }).map(([key, value]) => [
    key,
    typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value),
  ]);
  print(output, { ...manifest, chain }, formatTable(['KEY', 'VALUE'], rows));
}

function listOf(ids: readonly number[]): string {
  const noun = ids.length === 1 ? 'backup' : 'backups';
  return `${noun} ${ids.map(String).join(', ')}`;
}

/** The backups that a plan makes go away. */
function goneBy({ drop, merge }: PrunePlan): number[] {
  return [...drop, ...merge.flatMap((run) => run.slice(0, -1))].sort((a, b) => a - b);
}

/** What has no manifest may build on what would go. */
async function requireAllManifests(set: BackupSet): Promise<void> {
  const [orphan] = await set.orphans();
  const [bad] = set.unreadable;
  const problem =
    orphan === undefined
      ? bad && `the manifest of backup ${String(bad.id)} cannot be read`
      : `${orphan} has no manifest`;
  if (problem === undefined) return;
  throw new CliError(
    `${set.directory}: ${problem}: put it back, or move the files of that backup away; nothing was changed`,
    EXIT.state,
  );
}

/** What is printed of a prune or a merge, or of what one would do. */
function printChange(
  options: SetOptions & { dryRun?: true },
  set: BackupSet,
  plan: PrunePlan,
): void {
  const gone = goneBy(plan);
  const merges = plan.merge.map(
    (run) => `${listOf(run.slice(0, -1))} merged into backup ${String(run.at(-1))}`,
  );
  const deletions =
    plan.drop.length > 0 ? [`${listOf(plan.drop.sort((a, b) => a - b))} deleted`] : [];
  const what = [...deletions, ...merges].join('; ') || 'nothing to do';
  const text = options.dryRun === true ? `would be done in ${set.directory}: ${what}` : what;
  const json = { directory: set.directory, kept: plan.keep, gone, merged: plan.merge };
  print(
    options.output,
    options.dryRun === true ? { ...json, plan: text } : json,
    options.dryRun === true ? text : `${set.directory}: ${what}`,
  );
}

async function agree(set: BackupSet, gone: readonly number[]): Promise<void> {
  await confirm({
    warning: `There will be no way back to the state of ${listOf(gone)} of ${set.directory}`,
    agreement: 'yes',
    agreementName: '"yes"',
  });
}

export async function prune(text: string, options: PruneOptions): Promise<void> {
  const { directory } = placeOf(text);
  if (options.keepLast === undefined && options.keepDays === undefined) {
    throw new CliError('give --keep-last, --keep-days, or both', EXIT.usage);
  }
  if (options.dryRun === true) {
    const { set } = await BackupSet.glance(directory);
    printChange(options, set, planPrune(set.backups, options, new Date()));
    return;
  }
  await requireTools();
  await withSet(directory, 'write', async (set) => {
    await requireAllManifests(set);
    const plan = planPrune(set.backups, options, new Date());
    const gone = goneBy(plan);
    if (gone.length > 0 && options.yes !== true) await agree(set, gone);
    await interruptible((signal) => carryOut(set, plan, signal));
    printChange(options, set, plan);
  });
}

export async function merge(text: string, options: MergeOptions): Promise<void> {
  const { directory, id } = placeOf(text);
  if (id === undefined) {
    throw new CliError(`${text}: say which backup is meant, as ${text}@ID`, EXIT.usage);
  }
  const planOf = (set: BackupSet): PrunePlan => {
    const pair = mergePair(set, id, options.into);
    const keep = set.backups.filter((one) => one !== pair[0]).map((one) => one.id);
    return { keep, drop: [], merge: [pair.map((one) => one.id)] };
  };
  if (options.dryRun === true) {
    const { set } = await BackupSet.glance(directory);
    printChange(options, set, planOf(set));
    return;
  }
  await requireTools();
  await withSet(directory, 'write', async (set) => {
    await requireAllManifests(set);
    const plan = planOf(set);
    const pair = mergePair(set, id, options.into);
    if (options.yes !== true) await agree(set, goneBy(plan));
    await interruptible((signal) => mergeRun(set, pair, signal));
    printChange(options, set, plan);
  });
}

interface Verdict {
  id: number;
  file: string;
  verdict: 'ok' | 'wrong';
  problems: string[];
}

function verdict(set: BackupSet, id: number, problems: string[]): Verdict {
  const file = set.paths(id).imageName;
  return { id, file, verdict: problems.length === 0 ? 'ok' : 'wrong', problems };
}

/** Problems with what a backup builds on. */
function chainProblems(set: BackupSet, { parent }: SetManifest): string[] {
  if (parent === null || set.backups.some(({ id }) => id === parent)) return [];
  return [`backup ${String(parent)}, on which it builds, has no manifest that can be read`];
}

async function checkAll(set: BackupSet, id: number | undefined): Promise<Verdict[]> {
  const all = id === undefined ? set.backups : set.chainOf(set.require(id));
  const verdicts = await interruptible(async (signal) => {
    const done: Verdict[] = [];
    for (const backup of all) {
      const problems = [...chainProblems(set, backup), ...(await checkBackup(set, backup, signal))];
      done.push(verdict(set, backup.id, problems));
    }
    return done;
  });
  if (id !== undefined) return verdicts;
  for (const { id: bad, why } of set.unreadable) {
    verdicts.push(verdict(set, bad, [`its manifest cannot be read: ${why}`]));
  }
  for (const name of await set.orphans()) {
    verdicts.push({
      id: Number.parseInt(name, 10),
      file: name,
      verdict: 'wrong',
      problems: [`${name} has no manifest: it is missing, or this is no file of elioctl`],
    });
  }
  return verdicts.sort((a, b) => a.id - b.id);
}

export async function check(text: string, { output }: SetOptions): Promise<void> {
  const { directory, id } = placeOf(text);
  await requireTools();
  const verdicts = await withSet(directory, 'read', (set) => checkAll(set, id));
  const rows = verdicts.map(({ id: one, verdict: word, problems }) => [
    String(one),
    word,
    problems.join('; '),
  ]);
  print(output, verdicts, formatTable(['ID', 'VERDICT', 'PROBLEM'], rows));
  const wrong = verdicts.filter((one) => one.verdict === 'wrong');
  const [first] = wrong;
  if (!first) return;
  throw new CliError(
    `${directory}: ${String(wrong.length)} of ${String(verdicts.length)} backups are damaged: ${first.problems[0] ?? ''}`,
  );
}

/** Waits until somebody interrupts, or has unmounted it. */
async function untilUnmounted(mountPoint: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await mountedDevice(mountPoint)) !== undefined) {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, MOUNT_POLL_MS);
      signal.addEventListener(
        'abort',
        () => {
          clearTimeout(timer);
          resolve();
        },
        { once: true },
      );
    });
  }
}

export async function mount(text: string, where: string, options: MountOptions): Promise<void> {
  const place = placeOf(text);
  const mountPoint = resolve(where);
  if (options.unmount === true) {
    await unmountImage(mountPoint);
    return;
  }
  await requireTools();
  await withSet(place.directory, 'read', async (set) => {
    const backup = set.require(place.id);
    await set.soundChainOf(backup);
    const { image } = set.paths(backup.id);
    if (options.dryRun === true) {
      process.stdout.write(`${mountInstructions(image, mountPoint)}\n`);
      return;
    }
    if (process.getuid?.() !== 0) {
      process.stdout.write(`${mountInstructions(image, mountPoint)}\n`);
      throw new CliError('only root can mount: let root do the above', EXIT.unreachable);
    }
    // From the first step on: what an interrupt finds half mounted would stay.
    await interruptible(async (signal) => {
      const device = await mountImage(image, mountPoint);
      note(`${set.nameOf(backup.id)} is mounted on ${mountPoint} (${device}); Ctrl-C unmounts it`);
      await untilUnmounted(mountPoint, signal);
      if ((await mountedDevice(mountPoint)) !== undefined) await unmountImage(mountPoint);
    });
  });
}
