// SPDX-License-Identifier: Apache-2.0
// Backups of the devices of many hosts, each into a set of its own below one directory.
import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { backUp, type BackupOptions, type BackupResult } from '../backup/backup.js';
import { BackupLock } from '../backup/lock.js';
import { findDevice, Origin } from '../backup/origin.js';
import { Pacer } from '../backup/pacer.js';
import { globalOptions, hostsOf, type Connection, type Host } from '../connection.js';
import { isDeviceName } from '../device-name.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { findCandidates } from '../fleet/candidates.js';
import { carryOut, type HostWork, type Outcome } from '../fleet/carry-out.js';
import { FleetLayout } from '../fleet/layout.js';
import { writeMetrics } from '../fleet/metrics.js';
import { backupJson, backupTable, planJson, planTable } from '../fleet/outcomes.js';
import { writeReport, type FleetRun } from '../fleet/report.js';
import { throwFailures } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';
import { CountProgress, note } from '../progress.js';
import { requireTools } from '../qemu/tools.js';
import { SetTarget } from '../sets/set-target.js';
import { storageError } from '../sets/storage-error.js';
import { planBackup } from './plans.js';

export interface FleetBackupOptions {
  dest: string;
  device?: string[];
  bandwidth?: number;
  c: bigint;
  f: bigint;
  verify?: true;
  full?: true;
  all?: true;
  metrics?: string;
  keepReports?: number;
  dryRun?: true;
  output: OutputForm;
}

/** Whose devices, and how many at a time. */
interface Scope {
  hosts: readonly Host[];
  devices: readonly string[] | undefined;
  parallel: number;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** What can be known to be wrong before any host is asked. */
function checkOptions({ dest, device = [], metrics }: FleetBackupOptions): void {
  const bad = device.find((name) => !isDeviceName(name));
  if (bad !== undefined) {
    throw new CliError(
      `--device ${bad}: on other hosts a device is an absolute path, or a stable id such as PARTUUID=...`,
      EXIT.usage,
    );
  }
  const twice = device.find((name, i) => device.indexOf(name) !== i);
  if (twice !== undefined) throw new CliError(`--device ${twice} is there twice`, EXIT.usage);
  // Not made by the way: the disk on which it should be may not be mounted.
  if (!isDirectory(dest)) {
    throw new CliError(
      `--dest ${dest}: there is no such directory: make it, or mount the disk that has it`,
      EXIT.notFound,
    );
  }
  if (metrics !== undefined && !isDirectory(dirname(resolve(metrics)))) {
    throw new CliError(`--metrics: there is no directory ${dirname(metrics)}`, EXIT.notFound);
  }
}

function scopeOf(command: Command, devices: readonly string[] | undefined): Scope {
  const globals = globalOptions(command);
  if (globals.inventory === undefined && globals.host.length === 0) {
    throw new CliError('name the hosts with --inventory FILE, or with --host', EXIT.usage);
  }
  return { hosts: hostsOf(globals), devices, parallel: globals.parallel };
}

/** Finds the devices, and does the work on each. */
async function onFleet<T>(
  { hosts, devices, parallel }: Scope,
  begin: (connection: Connection, host: Host) => HostWork<T>,
  signal: AbortSignal,
): Promise<Outcome<T>[]> {
  const candidates = await findCandidates(hosts, devices, { parallel, signal });
  const sound = candidates.filter(({ failure }) => !failure);
  const progress = new CountProgress(sound.length, 'backups');
  try {
    const onAnswer = (): void => {
      progress.advance();
    };
    return await carryOut(candidates, begin, { parallel, signal, onAnswer });
  } finally {
    progress.stop();
  }
}

function backupOptionsOf(options: FleetBackupOptions): BackupOptions {
  return {
    cowSizeBytes: options.f,
    cacheSizeBytes: options.c,
    verify: options.verify === true,
    keepSnapshot: false,
    full: options.full === true,
    all: options.all === true,
  };
}

function planner(layout: FleetLayout, options: BackupOptions) {
  return (connection: Connection, { label }: Host): HostWork<string> => ({
    on: async (device) => {
      const glance = await SetTarget.glance(layout.set(label, device), options.full);
      return planBackup(connection, device, glance, options);
    },
  });
}

function maker(
  layout: FleetLayout,
  options: BackupOptions,
  bandwidth: number | undefined,
  signal: AbortSignal,
) {
  return (connection: Connection, { label }: Host): HostWork<BackupResult> => {
    const pacer = bandwidth === undefined ? undefined : new Pacer(bandwidth);
    return {
      on: async (name) => {
        const origin = new Origin(connection, await findDevice(connection, name));
        const target = await SetTarget.open(layout.set(label, name), options.full);
        try {
          const watch = {
            // The reasons are in the table.
            note: () => undefined,
            warn: (message: string) => {
              note(`${label}: ${name}: ${message}`);
            },
            showProgress: () => ({ advance: () => undefined, stop: () => undefined }),
            pacer,
          };
          return await backUp(connection, origin, target, options, watch, signal);
        } finally {
          await target.close();
        }
      },
    };
  };
}

function print(options: FleetBackupOptions, json: readonly object[], table: string): void {
  process.stdout.write(`${options.output === 'json' ? JSON.stringify(json) : table}\n`);
}

async function plan(scope: Scope, layout: FleetLayout, options: FleetBackupOptions): Promise<void> {
  const begin = planner(layout, backupOptionsOf(options));
  const outcomes = await interruptible((signal) => onFleet(scope, begin, signal));
  const json = outcomes.map((one) => planJson(one, layout));
  print(options, json, planTable(outcomes));
  throwFailures(outcomes, 'backups');
}

async function lockDestination(layout: FleetLayout): Promise<BackupLock> {
  const { root, lock } = layout;
  try {
    return await BackupLock.acquire(root, 'exclusive', lock);
  } catch (error) {
    throw storageError(error, root);
  }
}

async function runAll(
  scope: Scope,
  layout: FleetLayout,
  options: FleetBackupOptions,
): Promise<FleetRun> {
  const started = new Date();
  return interruptible(async (signal) => {
    const begin = maker(layout, backupOptionsOf(options), options.bandwidth, signal);
    const outcomes = await onFleet(scope, begin, signal);
    return { started, finished: new Date(), interrupted: signal.aborted, outcomes };
  });
}

/** Writes what others read of a run. What fails is said, and does not keep the rest from being written. */
async function publish(
  run: FleetRun,
  layout: FleetLayout,
  { metrics, keepReports }: FleetBackupOptions,
): Promise<Error[]> {
  const failures: Error[] = [];
  const attempt = async (what: string, write: () => Promise<unknown>): Promise<void> => {
    try {
      await write();
    } catch (error) {
      const message = messageOf(error);
      failures.push(new CliError(`the backups are what the table says, but ${what}: ${message}`));
    }
  };
  await attempt('their report cannot be written', () => writeReport(run, layout, keepReports));
  if (metrics !== undefined) {
    await attempt('their metrics cannot be written', () =>
      writeMetrics(resolve(metrics), run.outcomes, layout),
    );
  }
  return failures;
}

export async function fleetBackup(command: Command, options: FleetBackupOptions): Promise<void> {
  checkOptions(options);
  const scope = scopeOf(command, options.device);
  await requireTools();
  const layout = new FleetLayout(resolve(options.dest));
  if (options.dryRun === true) {
    await plan(scope, layout, options);
    return;
  }
  const lock = await lockDestination(layout);
  try {
    const run = await runAll(scope, layout, options);
    const { outcomes } = run;
    const unpublished = await publish(run, layout, options);
    const json = outcomes.map((one) => backupJson(one, layout));
    print(options, json, backupTable(outcomes));
    for (const { message } of unpublished) note(`elioctl: ${message}`);
    throwFailures(outcomes, 'backups');
    if (unpublished.length > 0) throw new CliError('not all of the run could be written down');
  } finally {
    await lock.release();
  }
}
