// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { CliError, EXIT } from '../errors.js';

export function addVerify(program: Command): void {
  program
    .command('verify')
    .description('is a backup what its manifest says, and what the image of a device shows?')
    .argument('<file>', 'the backup')
    .argument('[block device]', 'its origin, in snapshot mode: see backup --keep-snapshot')
    .action(
      async (file: string, device: string | undefined, _options: object, command: Command) => {
        const { Destination } = await import('../backup/destination.js');
        const { checkDigests, compareWithImage } = await import('../backup/verify.js');
        const { interruptible } = await import('../backup/interrupt.js');
        const destination = await Destination.open(file, 'read');
        try {
          await interruptible((signal) => checkDigests(destination, signal));
          if (device === undefined) {
            process.stdout.write(`${file} is whole: its content is what its manifest says\n`);
            return;
          }
          const { withConnection, hostPath } = await import('../connection.js');
          const { findDevice } = await import('../backup/origin.js');
          await withConnection(command, async (connection) => {
            const path = hostPath(connection, device, 'block device');
            const { minor } = await findDevice(connection, path);
            if (minor === undefined) {
              throw new CliError(`${device} is not tracked: there is no image`, EXIT.state);
            }
            await interruptible((signal) =>
              compareWithImage(connection, minor, destination, signal),
            );
          });
          process.stdout.write(`${file} equals the image of ${device}, block by block\n`);
        } finally {
          await destination.close();
        }
      },
    );
}
