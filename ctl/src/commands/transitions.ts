// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { parseMinor } from '../arguments.js';
import { cowSizeOption } from './setup-snapshot.js';

export function addTransitions(program: Command): void {
  program
    .command('transition-to-incremental')
    .description('remove the image and go on recording which blocks change')
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, _options: object, command: Command) => {
      const { withConnection, SLOW_CALL_MS } = await import('../connection.js');
      await withConnection(command, async (connection) => {
        const request = { minor, requestId: randomUUID() };
        await connection.snapshots.transitionToIncremental(request, SLOW_CALL_MS);
      });
    });

  program
    .command('transition-to-snapshot')
    .description('take the next snapshot; the old COW file stays and tells what has changed')
    .addOption(cowSizeOption())
    .argument('<cow file>', 'a new file on the filesystem of the device')
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (cowFile: string, minor: number, options: { f: bigint }, command: Command) => {
      const { hostPath, withConnection, SLOW_CALL_MS } = await import('../connection.js');
      await withConnection(command, async (connection) => {
        const request = {
          minor,
          cowFile: hostPath(connection, cowFile, 'cow file'),
          cowSizeBytes: options.f,
          requestId: randomUUID(),
          leaseSeconds: 0,
        };
        await connection.snapshots.transitionToSnapshot(request, SLOW_CALL_MS);
      });
    });
}
