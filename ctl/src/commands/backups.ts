// SPDX-License-Identifier: Apache-2.0
// The commands that write and read backups.
import { Option, type Command } from 'commander';
import { parseCount } from '../arguments.js';
import { cacheOption, cowSizeOption, dryRunOption, outputOption, yesOption } from '../options.js';
import type { BackupCommandOptions } from '../actions/backup.js';
import type { RestoreOptions } from '../actions/restore.js';
import type { VerifyOptions } from '../actions/verify.js';

const SOURCE = 'the backup, on this machine; of a directory the newest one, if none is named';

export function addBackups(program: Command): void {
  program
    .command('backup')
    .summary('back up a device: in full, then only what changed')
    .description(
      "Back up a device: in full, then only what changed. The device ends in incremental mode: which blocks change goes on being recorded. A file is brought up to date by each run; FILE.manifest beside it belongs to it. A directory gets another backup by each run: a chain of qcow2 files, which needs QEMU's tools (package qemu-utils). See `elioctl help backups`.",
    )
    .addOption(cacheOption())
    .addOption(cowSizeOption())
    .option('--verify', 'compare file and image, block by block, before the image goes')
    .option('--full', 'stream everything; in a directory this begins a new chain')
    .option('--all', 'also what the filesystem does not use')
    .option('--keep-snapshot', 'leave the image instead of going to incremental mode')
    .addOption(dryRunOption())
    .addOption(outputOption())
    .argument('<block device>', 'the device, mounted read-write')
    .argument('<file or directory>', 'the backup, on this machine; a new directory ends in /')
    .action(
      async (device: string, file: string, options: BackupCommandOptions, command: Command) => {
        const { backup } = await import('../actions/backup.js');
        await backup(command, device, file, options);
      },
    );

  program
    .command('verify')
    .description('is a backup what its manifest says, and what the image of a device shows?')
    .addOption(outputOption())
    .argument('<file or directory[@id]>', SOURCE)
    .argument('[block device]', 'its origin, in snapshot mode: see backup --keep-snapshot')
    .action(
      async (
        file: string,
        device: string | undefined,
        options: VerifyOptions,
        command: Command,
      ) => {
        const { verify } = await import('../actions/verify.js');
        await verify(command, file, device, options);
      },
    );

  program
    .command('restore')
    .summary('overwrite a device that is not in use with a backup, and verify it')
    .description(
      'Overwrite a device that is not in use with a backup, and verify it there. It asks first, or needs --yes where there is no terminal. With --local the target is a block device of this machine, or a file, which becomes a sparse image; no agent is needed.',
    )
    .addOption(yesOption())
    .addOption(
      new Option(
        '--local',
        'write to a device or file of this machine, without an agent',
      ).conflicts('streams'),
    )
    .option('--streams <n>', 'upload streams at a time', parseCount, 4)
    .option('--only-changed', 'read the target first, and write only the MiB of it that differ')
    .addOption(dryRunOption())
    .addOption(outputOption())
    .argument('<file or directory[@id]>', SOURCE)
    .argument(
      '<target device>',
      'a block device, not mounted, not tracked, large enough; or with --local a file',
    )
    .action(async (file: string, target: string, options: RestoreOptions, command: Command) => {
      if (options.local === true) {
        const { restoreLocally } = await import('../actions/restore-local.js');
        await restoreLocally(command, file, target, options);
        return;
      }
      const { restore } = await import('../actions/restore.js');
      await restore(command, file, target, options);
    });
}
