// SPDX-License-Identifier: Apache-2.0
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { parseCount } from '../arguments.js';
import { CliError, EXIT } from '../errors.js';

async function confirm(target: string, host: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new CliError(
      `restore overwrites ${target} on ${host}: add --yes if that is what you want`,
      EXIT.usage,
    );
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(
    `All of ${target} on ${host} will be overwritten. Type its path to go on: `,
  );
  terminal.close();
  if (answer.trim() !== target) throw new CliError('nothing was done', EXIT.failed);
}

interface Options {
  yes?: true;
  streams: number;
}

export function addRestore(program: Command): void {
  program
    .command('restore')
    .description('overwrite a device that is not in use with a backup, and verify it')
    .option('--yes', 'do not ask')
    .option('--streams <n>', 'upload streams at a time', parseCount, 4)
    .argument('<file>', 'the backup, on this machine')
    .argument('<target device>', 'a block device, not mounted, not tracked, large enough')
    .action(async (file: string, target: string, options: Options, command: Command) => {
      const { globalOptions, hostPath, openConnection } = await import('../connection.js');
      const { Destination } = await import('../backup/destination.js');
      const { interruptible } = await import('../backup/interrupt.js');
      const { restore } = await import('../backup/restore.js');
      const globals = globalOptions(command);
      const connection = openConnection(globals);
      const others = Array.from({ length: options.streams - 1 }, () => openConnection(globals));
      try {
        const path = hostPath(connection, target, 'target device');
        const destination = await Destination.open(file, 'read');
        try {
          destination.requireManifest();
          if (options.yes !== true) await confirm(path, connection.label);
          const device = await interruptible((signal) =>
            restore([connection, ...others], destination, path, signal),
          );
          process.stdout.write(`${file} was restored to ${device} and verified there\n`);
        } finally {
          await destination.close();
        }
      } finally {
        for (const one of [connection, ...others]) one.close();
      }
    });
}
