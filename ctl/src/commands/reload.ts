// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { parseMinor } from '../arguments.js';
import { cacheOption } from './setup-snapshot.js';

interface Options {
  c: bigint;
  i?: true;
}

function addReloadOf(program: Command, mode: 'snapshot' | 'incremental'): void {
  program
    .command(`reload-${mode}`)
    .description(`expect a device that was left in ${mode} mode to be mounted again`)
    .addOption(cacheOption())
    .option('-i', 'failed reads of the image give zeros')
    .argument('<block device>', 'the device, not mounted yet')
    .argument('<cow file>', 'path of the COW file, from the root of its filesystem')
    .argument('<minor>', 'number of the image device', parseMinor)
    .action(
      async (
        device: string,
        cowFile: string,
        minor: number,
        options: Options,
        command: Command,
      ) => {
        const { hostPath, withConnection } = await import('../connection.js');
        await withConnection(command, async (connection) => {
          const request = {
            blockDevice: hostPath(connection, device, 'block device'),
            cowFile,
            minor,
            cacheSizeBytes: options.c,
            ignoreErrors: options.i === true,
            requestId: randomUUID(),
          };
          if (mode === 'snapshot') await connection.snapshots.reloadSnapshot(request);
          else await connection.snapshots.reloadIncremental(request);
        });
      },
    );
}

export function addReload(program: Command): void {
  addReloadOf(program, 'snapshot');
  addReloadOf(program, 'incremental');
}
