// SPDX-License-Identifier: Apache-2.0
// The commands that work with backup sets, on this machine and without an agent.
import { Option, type Command } from 'commander';
import { parseCount } from '../arguments.js';
import { dryRunOption, outputOption, yesOption } from '../options.js';
import type {
  MergeOptions,
  MountOptions,
  PruneOptions,
  SetOptions,
} from '../actions/backup-sets.js';

const DIRECTORY = 'the set';
const DIRECTORY_AT_ID = 'the set, and which backup of it; without one the newest';

export function addBackupSets(program: Command): void {
  const backups = program
    .command('backups')
    .description('work with backup sets: directories that `backup` has filled');

  backups
    .command('list')
    .description('print the backups of a set')
    .addOption(outputOption())
    .argument('<directory>', DIRECTORY)
    .action(async (directory: string, options: SetOptions) => {
      const { list } = await import('../actions/backup-sets.js');
      await list(directory, options);
    });

  backups
    .command('show')
    .description('print the manifest of a backup, and which ones it builds on')
    .addOption(outputOption())
    .argument('<directory[@id]>', DIRECTORY_AT_ID)
    .action(async (place: string, options: SetOptions) => {
      const { show } = await import('../actions/backup-sets.js');
      await show(place, options);
    });

  backups
    .command('check')
    .summary('are all files of a set there, and what they were?')
    .description(
      'Are all files of a set there, and what they were? It looks at the chain, has qemu-img check each file, and compares what each backup holds with its checksums. Neither host nor agent is needed. With an ID it looks at what that backup is made of.',
    )
    .addOption(outputOption())
    .argument('<directory[@id]>', 'the set; with a backup only what that one is made of')
    .action(async (place: string, options: SetOptions) => {
      const { check } = await import('../actions/backup-sets.js');
      await check(place, options);
    });

  backups
    .command('prune')
    .summary('delete the backups of a set that are older than wanted')
    .description(
      'Delete the backups of a set that neither --keep-last nor --keep-days wants to keep. Those on which others build are merged into them. The newest one always stays. It asks first, or needs --yes where there is no terminal.',
    )
    .option('--keep-last <n>', 'keep the newest ones', parseCount)
    .option('--keep-days <n>', 'keep those of the last days', parseCount)
    .addOption(yesOption())
    .addOption(dryRunOption())
    .addOption(outputOption())
    .argument('<directory>', DIRECTORY)
    .action(async (directory: string, options: PruneOptions) => {
      const { prune } = await import('../actions/backup-sets.js');
      await prune(directory, options);
    });

  backups
    .command('merge')
    .summary('make one backup out of two that follow each other')
    .description(
      'Make one backup out of two that follow each other: the later one stays, and holds what both held. All other backups stay what they are. What is copied is verified before. It asks first, or needs --yes where there is no terminal.',
    )
    .addOption(
      new Option('--into <neighbour>', 'the other one of the two')
        .choices(['successor', 'predecessor'])
        .default('successor'),
    )
    .addOption(yesOption())
    .addOption(dryRunOption())
    .addOption(outputOption())
    .argument('<directory@id>', 'the set, and which backup of it')
    .action(async (place: string, options: MergeOptions) => {
      const { merge } = await import('../actions/backup-sets.js');
      await merge(place, options);
    });

  backups
    .command('mount')
    .summary('mount a backup read-only, to look for files')
    .description(
      'Mount a backup read-only, to look for files, until it is interrupted. Only root can do that; others are told what to do.',
    )
    .option('--unmount', 'undo it from elsewhere, or when it was killed')
    .option('--dry-run', 'print what root can type instead')
    .argument('<directory[@id]>', DIRECTORY_AT_ID)
    .argument('<mount directory>', 'an empty directory')
    .action(async (place: string, mountPoint: string, options: MountOptions) => {
      const { mount } = await import('../actions/backup-sets.js');
      await mount(place, mountPoint, options);
    });
}
