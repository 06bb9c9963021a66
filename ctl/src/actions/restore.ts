// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { RestoredBytes } from '../backup/chunk-source.js';
import { restore as restoreTo } from '../backup/restore.js';
import { confirm } from '../confirm.js';
import { globalOptions, hostDevice, openConnection } from '../connection.js';
import { answersText, PLAN } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import { formatBytes } from '../output.js';
import type { OutputForm } from '../options.js';
import { note } from '../progress.js';
import { glanceAtBackup, openBackup } from '../sets/source.js';
import { planRestore } from './plans.js';

export interface RestoreOptions {
  yes?: true;
  streams: number;
  onlyChanged?: true;
  local?: true;
  dryRun?: true;
  output: OutputForm;
}

/** Tells what a restore has done, for people and for scripts. */
export function report(
  { output }: RestoreOptions,
  file: string,
  restored: { host: string; device: string; sizeBytes: number; bytes: RestoredBytes },
): void {
  const { host, device, sizeBytes, bytes } = restored;
  const { data, zeros, same } = bytes;
  if (same !== undefined) {
    const text = (count: number): string => formatBytes(BigInt(count));
    note(
      `${text(data)} of data and ${text(zeros)} of zeros were written; ${text(same)} were there already`,
    );
  }
  const result = {
    host,
    device,
    file,
    size_bytes: sizeBytes,
    sent_bytes: data,
    zeroed_bytes: zeros,
    same_bytes: same ?? null,
  };
  const text =
    output === 'json'
      ? JSON.stringify(result)
      : `${file} was restored to ${device} and verified there`;
  process.stdout.write(`${text}\n`);
}

export async function restore(
  command: Command,
  file: string,
  target: string,
  options: RestoreOptions,
): Promise<void> {
  const globals = globalOptions(command);
  const connection = openConnection(globals);
  const others = Array.from({ length: options.streams - 1 }, () => openConnection(globals));
  try {
    const path = hostDevice(connection, target, 'target device');
    const host = connection.label;
    const onlyChanged = options.onlyChanged === true;
    if (options.dryRun === true) {
      const found = await glanceAtBackup(file);
      const answer = await planRestore(connection, path, found, onlyChanged);
      const form = options.output === 'json' ? 'json' : undefined;
      process.stdout.write(answersText([{ host, answer }], PLAN, form));
      return;
    }
    const { content, close } = await openBackup(file);
    try {
      const { sizeBytes } = content;
      if (options.yes !== true) {
        await confirm({
          warning: `All of ${path} on ${host} will be overwritten`,
          agreement: path,
          agreementName: 'its path',
        });
      }
      const connections = [connection, ...others] as const;
      const { target: device, bytes } = await interruptible((signal) =>
        restoreTo({ connections, targetDevice: path, onlyChanged }, content, signal),
      );
      report(options, file, { host, device, sizeBytes, bytes });
    } finally {
      await close();
    }
  } finally {
    for (const one of [connection, ...others]) one.close();
  }
}
