// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { parseMinor } from '../arguments.js';
import { cacheOption } from './setup-snapshot.js';

export function addReconfigure(program: Command): void {
  program
    .command('reconfigure')
    .description('change the limit of the index cache')
    .addOption(cacheOption())
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, options: { c: bigint }, command: Command) => {
      const { withConnection, SLOW_CALL_MS } = await import('../connection.js');
      await withConnection(command, async (connection) => {
        const request = { minor, cacheSizeBytes: options.c, requestId: randomUUID() };
        await connection.snapshots.reconfigureSnapshot(request, SLOW_CALL_MS);
      });
    });
}
