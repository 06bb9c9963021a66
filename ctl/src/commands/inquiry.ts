// SPDX-License-Identifier: Apache-2.0
// The commands that only look.
import type { Command } from 'commander';
import { parseCount, parseMinor, parseSeconds } from '../arguments.js';
import { hostOutputOption, outputOption } from '../options.js';
import type { DoctorOptions } from '../actions/doctor.js';
import type { EventsOptions } from '../actions/events.js';
import type { InquiryOptions } from '../actions/inquiry.js';
import type { WatchOptions } from '../actions/watch.js';

export function addInquiry(program: Command): void {
  program
    .command('info')
    .summary('print what is known of a snapshot, as JSON')
    .description(
      'Print what is known of a snapshot. Without --output one host prints one JSON object; its sizes are bytes, and its state has the bits 1 (snapshot), 2 (active) and 4 (unverified).',
    )
    .addOption(hostOutputOption())
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, options: InquiryOptions, command: Command) => {
      const { info } = await import('../actions/inquiry.js');
      await info(command, minor, options);
    });

  program
    .command('get-free-minor')
    .description('print the lowest number that no snapshot has')
    .addOption(hostOutputOption())
    .action(async (options: InquiryOptions, command: Command) => {
      const { getFreeMinor } = await import('../actions/inquiry.js');
      await getFreeMinor(command, options);
    });

  program
    .command('list')
    .description('print the snapshots of one or several hosts')
    .addOption(outputOption())
    .action(async (options: InquiryOptions, command: Command) => {
      const { list } = await import('../actions/inquiry.js');
      await list(command, options);
    });

  program
    .command('devices')
    .summary('print the block devices of one or several hosts')
    .description(
      'Print the block devices of one or several hosts: what they are, where they are mounted, and their stable ids, which can stand where a block device is asked for.',
    )
    .addOption(outputOption())
    .action(async (options: InquiryOptions, command: Command) => {
      const { devices } = await import('../actions/inquiry.js');
      await devices(command, options);
    });

  program
    .command('watch')
    .summary('show the snapshots of one or several hosts, again and again')
    .description(
      'Show the snapshots of one or several hosts, again and again: state, how full the COW file is, what has changed, and how fast it changes. A terminal is redrawn; anything else gets a line for each snapshot at each look. It ends after --count looks, or when it is interrupted.',
    )
    .option('--interval <seconds>', 'time between two looks', parseSeconds, 2)
    .option('--count <n>', 'end after that many looks', parseCount)
    .addOption(outputOption())
    .action(async (options: WatchOptions, command: Command) => {
      const { watch } = await import('../actions/watch.js');
      await watch(command, options);
    });

  program
    .command('events')
    .summary('print what happens to the snapshots of one or several hosts, when it happens')
    .description(
      'Print what happens to the snapshots of one or several hosts, when it happens: changes of state, how full the COW file is (50, 80 and 95 %), when it will overflow, failures, ended leases. It begins with the snapshots that there are, and goes on where it was when a connection breaks. It ends after --count events, or when it is interrupted.',
    )
    .option('--resume-token <token>', 'go on behind that event of this host (in --output json)')
    .option('--count <n>', 'end after that many events', parseCount)
    .addOption(outputOption())
    .action(async (options: EventsOptions, command: Command) => {
      const { events } = await import('../actions/events.js');
      await events(command, options);
    });

  program
    .command('doctor')
    .summary('look for what keeps hosts from being tracked, and say what to do')
    .description(
      'Look for what keeps hosts from being tracked, and say what to do: the module, its version and signature, Secure Boot, the kernel, the devices; on this host also the socket, the certificates and the space for COW files. It exits with 1 when something is wrong.',
    )
    .addOption(outputOption())
    .action(async (options: DoctorOptions, command: Command) => {
      const { doctor } = await import('../actions/doctor.js');
      await doctor(command, options);
    });
}
