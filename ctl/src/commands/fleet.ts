// SPDX-License-Identifier: Apache-2.0
// The commands that are for many hosts only.
import type { Command } from 'commander';
import type { FleetBackupOptions } from '../actions/fleet-backup.js';
import { parseBandwidth, parseCount } from '../arguments.js';
import { appendList, cacheOption, cowSizeOption, dryRunOption, outputOption } from '../options.js';

export function addFleet(program: Command): void {
  const fleet = program
    .command('fleet')
    .description('what is done with many hosts from one machine, from cron or a systemd timer');

  fleet
    .command('backup')
    .summary('back up the devices of many hosts, each into a set of its own')
    .description(
      "Back up the devices of many hosts, each into a set of its own: DIRECTORY/HOST/DEVICE. The devices are those of --device, else those that the inventory names, else all that are mounted for writing and can be tracked. --parallel hosts are backed up at a time, on each one device after the other. What fails leaves the others alone. A report of each run is in DIRECTORY/reports. It needs QEMU's tools (package qemu-utils).",
    )
    .requiredOption('--dest <directory>', 'where the sets are, on this machine')
    .option(
      '--device <block device>',
      'a device of every host, by path or stable id (repeated, or a list)',
      appendList,
    )
    .option(
      '--bandwidth <rate>',
      'what each host sends at most in a second, in MiB, or with K, M or G',
      parseBandwidth,
    )
    .addOption(cacheOption())
    .addOption(cowSizeOption())
    .option('--verify', 'compare each backup with the image, block by block, before the image goes')
    .option('--full', 'stream everything; this begins new chains')
    .option('--all', 'also what the filesystems do not use')
    .option('--metrics <file>', "metrics for the textfile collector of Prometheus' node_exporter")
    .option('--keep-reports <n>', 'keep the newest reports only', parseCount)
    .addOption(dryRunOption())
    .addOption(outputOption())
    .action(async (options: FleetBackupOptions, command: Command) => {
      const { fleetBackup } = await import('../actions/fleet-backup.js');
      await fleetBackup(command, options);
    });
}
