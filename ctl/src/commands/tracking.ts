// SPDX-License-Identifier: Apache-2.0
// The manual page's commands that change something. Definitions only: what a command needs to run is loaded when it runs.
import type { Command } from 'commander';
import { parseMinor } from '../arguments.js';
import {
  cacheOption,
  cowSizeOption,
  dryRunOption,
  hostOutputOption,
  ignoreErrorsOption,
  leaseOption,
  yesOption,
} from '../options.js';
import type {
  CacheOptions,
  ChangeOptions,
  DestroyOptions,
  LeaseOptions,
  ReloadOptions,
  SetupOptions,
  TransitionOptions,
} from '../actions/tracking.js';

/** A command that changes something on each of its hosts. */
function change(program: Command, name: string, summary: string, description: string): Command {
  return program
    .command(name)
    .summary(summary)
    .description(`${capitalised(summary)}. ${description}`)
    .addOption(dryRunOption())
    .addOption(hostOutputOption());
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function addReload(program: Command, mode: 'snapshot' | 'incremental'): void {
  change(
    program,
    `reload-${mode}`,
    `expect a device that was left in ${mode} mode to be mounted again`,
    'To be run before the filesystem is mounted, after a clean reboot or after the module was unloaded.',
  )
    .addOption(cacheOption())
    .addOption(ignoreErrorsOption())
    .argument('<block device>', 'the device, not mounted yet')
    .argument('<cow file>', 'path of the COW file, from the root of its filesystem')
    .argument('<minor>', 'number of the image device', parseMinor)
    .action(
      async (
        device: string,
        cowFile: string,
        minor: number,
        options: ReloadOptions,
        command: Command,
      ) => {
        const { reload } = await import('../actions/tracking.js');
        await reload(command, mode, device, cowFile, minor, options);
      },
    );
}

export function addTracking(program: Command): void {
  change(
    program,
    'setup-snapshot',
    'start tracking a mounted device; its image is /dev/elastio-snap<minor>',
    'The COW file takes the old content of what is overwritten. When it is full the snapshot fails, and the device goes on unharmed.',
  )
    .addOption(cacheOption())
    .addOption(cowSizeOption())
    .addOption(ignoreErrorsOption())
    .addOption(leaseOption())
    .argument('<block device>', 'the device, mounted read-write')
    .argument('<cow file>', 'a new file on that filesystem, or a COW file that is not in use')
    .argument('<minor>', 'number of the image device', parseMinor)
    .action(
      async (
        device: string,
        cowFile: string,
        minor: number,
        options: SetupOptions,
        command: Command,
      ) => {
        const { setupSnapshot } = await import('../actions/tracking.js');
        await setupSnapshot(command, device, cowFile, minor, options);
      },
    );

  addReload(program, 'snapshot');
  addReload(program, 'incremental');

  change(
    program,
    'transition-to-incremental',
    'remove the image and go on recording which blocks change',
    'Nothing is copied any more: the COW file holds only its index.',
  )
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, options: ChangeOptions, command: Command) => {
      const { transitionToIncremental } = await import('../actions/tracking.js');
      await transitionToIncremental(command, minor, options);
    });

  change(
    program,
    'transition-to-snapshot',
    'take the next snapshot; the old COW file stays and tells what has changed',
    'No write is missed between the two. The old COW file is for update-img.',
  )
    .addOption(cowSizeOption())
    .addOption(leaseOption())
    .argument('<cow file>', 'a new file on the filesystem of the device')
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(
      async (cowFile: string, minor: number, options: TransitionOptions, command: Command) => {
        const { transitionToSnapshot } = await import('../actions/tracking.js');
        await transitionToSnapshot(command, cowFile, minor, options);
      },
    );

  change(
    program,
    'renew-lease',
    'begin the lease of a snapshot anew, as its use does',
    'With --lease it gets another one.',
  )
    .addOption(leaseOption())
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, options: LeaseOptions, command: Command) => {
      const { renewLease } = await import('../actions/tracking.js');
      await renewLease(command, minor, options);
    });

  change(
    program,
    'destroy',
    'end tracking; the active COW file is deleted',
    'The next backup of the device is a full one. On several hosts it asks first, or needs --yes where there is no terminal.',
  )
    .addOption(yesOption())
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, options: DestroyOptions, command: Command) => {
      const { destroy } = await import('../actions/tracking.js');
      await destroy(command, minor, options);
    });

  change(
    program,
    'reconfigure',
    'change the limit of the index cache',
    'Nothing else of a snapshot can be changed while it exists.',
  )
    .addOption(cacheOption())
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, options: CacheOptions, command: Command) => {
      const { reconfigure } = await import('../actions/tracking.js');
      await reconfigure(command, minor, options);
    });
}
