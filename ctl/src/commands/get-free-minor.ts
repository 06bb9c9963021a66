// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';

export function addGetFreeMinor(program: Command): void {
  program
    .command('get-free-minor')
    .description('print the lowest number that no snapshot has')
    .action(async (_options: object, command: Command) => {
      const { withConnection } = await import('../connection.js');
      await withConnection(command, async (connection) => {
        const { minor } = await connection.snapshots.getFreeMinor({});
        process.stdout.write(`${String(minor)}\n`);
      });
    });
}
