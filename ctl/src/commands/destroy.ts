// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { parseMinor } from '../arguments.js';

export function addDestroy(program: Command): void {
  program
    .command('destroy')
    .description('end tracking; the active COW file is deleted')
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, _options: object, command: Command) => {
      const { withConnection, SLOW_CALL_MS } = await import('../connection.js');
      await withConnection(command, async (connection) => {
        const request = { minor, requestId: randomUUID() };
        await connection.snapshots.destroySnapshot(request, SLOW_CALL_MS);
      });
    });
}
