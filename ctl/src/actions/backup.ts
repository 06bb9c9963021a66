// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { backUp, type BackupOptions, type BackupResult } from '../backup/backup.js';
import { Destination } from '../backup/destination.js';
import type { BackupTarget } from '../backup/target.js';
import { meansSet } from '../sets/names.js';
import { SetTarget } from '../sets/set-target.js';
import { findDevice, Origin } from '../backup/origin.js';
import type { BackupWatch } from '../backup/watch.js';
import { hostDevice, withConnection } from '../connection.js';
import { answersText, PLAN } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';
import { formatBytes } from '../output.js';
import { note, progressBar } from '../progress.js';
import { planBackup, type Glance } from './plans.js';

export interface BackupCommandOptions {
  c: bigint;
  f: bigint;
  verify?: true;
  keepSnapshot?: true;
  full?: true;
  all?: true;
  dryRun?: true;
  output: OutputForm;
}

const watch: BackupWatch = { note, warn: note, showProgress: progressBar };

function resultText(r: BackupResult): string {
  const moved = formatBytes(BigInt(r.sent_bytes));
  const volume = formatBytes(BigInt(r.volume_bytes));
  return `${r.type} backup of ${r.device} to ${r.file}: ${moved} of ${volume} in ${r.seconds.toFixed(1)} s (${r.reason})`;
}

/** A directory is a set, anything else a raw file. */
async function openTarget(
  path: string,
  full: boolean,
): Promise<BackupTarget & { close(): Promise<void> }> {
  return meansSet(path)
    ? SetTarget.open(resolve(path), full)
    : Destination.open(path, 'write', full);
}

async function glanceAtTarget(path: string, full: boolean): Promise<Glance<BackupTarget>> {
  if (meansSet(path)) return SetTarget.glance(resolve(path), full);
  const { destination, unfinished } = await Destination.glance(path, full);
  return { found: destination, unfinished };
}

export async function backup(
  command: Command,
  device: string,
  file: string,
  options: BackupCommandOptions,
): Promise<void> {
  const backupOptions: BackupOptions = {
    cowSizeBytes: options.f,
    cacheSizeBytes: options.c,
    verify: options.verify === true,
    keepSnapshot: options.keepSnapshot === true,
    full: options.full === true,
    all: options.all === true,
  };
  const { full } = backupOptions;
  await withConnection(command, async (connection) => {
    const path = hostDevice(connection, device, 'block device');
    if (options.dryRun === true) {
      const answer = await planBackup(
        connection,
        path,
        await glanceAtTarget(file, full),
        backupOptions,
      );
      const form = options.output === 'json' ? 'json' : undefined;
      process.stdout.write(answersText([{ host: connection.label, answer }], PLAN, form));
      return;
    }
    const target = await openTarget(file, full);
    try {
      const origin = new Origin(connection, await findDevice(connection, path));
      const result = await interruptible((signal) =>
        backUp(connection, origin, target, backupOptions, watch, signal),
      );
      const text = options.output === 'json' ? JSON.stringify(result) : resultText(result);
      process.stdout.write(`${text}\n`);
    } finally {
      await target.close();
    }
  });
}
