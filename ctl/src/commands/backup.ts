// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { BackupResult } from '../backup/backup.js';
import { formatBytes } from '../output.js';
import { outputOption } from './list.js';
import { cacheOption, cowSizeOption } from './setup-snapshot.js';

interface Options {
  c: bigint;
  f: bigint;
  verify?: true;
  keepSnapshot?: true;
  output: string;
}

function resultText(r: BackupResult): string {
  const moved = formatBytes(BigInt(r.sent_bytes));
  const volume = formatBytes(BigInt(r.volume_bytes));
  return `${r.type} backup of ${r.device} to ${r.file}: ${moved} of ${volume} in ${r.seconds.toFixed(1)} s (${r.reason})`;
}

export function addBackup(program: Command): void {
  program
    .command('backup')
    .description('bring a backup file up to date with a device: in full, then only what changed')
    .addOption(cacheOption())
    .addOption(cowSizeOption())
    .option('--verify', 'compare file and image, block by block, before the image goes')
    .option('--keep-snapshot', 'leave the image instead of going to incremental mode')
    .addOption(outputOption())
    .argument('<block device>', 'the device, mounted read-write')
    .argument('<file>', 'the backup, on this machine')
    .addHelpText(
      'after',
      `
The device ends in incremental mode: which blocks change goes on being recorded.
Run it again with the same file to bring the file up to date. FILE.manifest
beside the file belongs to it.
`,
    )
    .action(async (device: string, file: string, options: Options, command: Command) => {
      const { withConnection, hostPath } = await import('../connection.js');
      const { backUp } = await import('../backup/backup.js');
      const { Destination } = await import('../backup/destination.js');
      const { interruptible } = await import('../backup/interrupt.js');
      const { findDevice, Origin } = await import('../backup/origin.js');
      await withConnection(command, async (connection) => {
        const path = hostPath(connection, device, 'block device');
        const destination = await Destination.open(file, 'write');
        try {
          const origin = new Origin(connection, await findDevice(connection, path));
          const result = await interruptible((signal) =>
            backUp(
              connection,
              origin,
              destination,
              {
                cowSizeBytes: options.f,
                cacheSizeBytes: options.c,
                verify: options.verify === true,
                keepSnapshot: options.keepSnapshot === true,
              },
              signal,
            ),
          );
          const text = options.output === 'json' ? JSON.stringify(result) : resultText(result);
          process.stdout.write(`${text}\n`);
        } finally {
          await destination.close();
        }
      });
    });
}
