// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { restore as restoreTo } from '../backup/restore.js';
import { confirm } from '../confirm.js';
import { globalOptions, hostDevice, openConnection } from '../connection.js';
import { answersText, PLAN } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';
import { glanceAtBackup, openBackup } from '../sets/source.js';
import { planRestore } from './plans.js';

export interface RestoreOptions {
  yes?: true;
  streams: number;
  dryRun?: true;
  output: OutputForm;
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
    if (options.dryRun === true) {
      const answer = await planRestore(connection, path, await glanceAtBackup(file));
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
      const device = await interruptible((signal) =>
        restoreTo([connection, ...others], content, path, signal),
      );
      const text =
        options.output === 'json'
          ? JSON.stringify({ host, device, file, size_bytes: sizeBytes })
          : `${file} was restored to ${device} and verified there`;
      process.stdout.write(`${text}\n`);
    } finally {
      await close();
    }
  } finally {
    for (const one of [connection, ...others]) one.close();
  }
}
