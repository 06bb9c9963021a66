// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import { Option, type Command } from 'commander';
import { parseCacheSize, parseCowSize, parseMinor } from '../arguments.js';

/** -c of several commands. */
export function cacheOption(): Option {
  return new Option('-c <cache size>', 'limit of the index cache in MiB, or with K, M or G')
    .argParser(parseCacheSize)
    .default(0n, '300 MiB');
}

/** -f of several commands. */
export function cowSizeOption(): Option {
  return new Option('-f <fallocate>', 'size of the COW file in MiB, or with K, M or G')
    .argParser(parseCowSize)
    .default(0n, '10 % of the device');
}

interface Options {
  c: bigint;
  f: bigint;
  i?: true;
}

export function addSetupSnapshot(program: Command): void {
  program
    .command('setup-snapshot')
    .description('start tracking a mounted device; its image is /dev/elastio-snap<minor>')
    .addOption(cacheOption())
    .addOption(cowSizeOption())
    .option('-i', 'failed reads of the image give zeros')
    .argument('<block device>', 'the device, mounted read-write')
    .argument('<cow file>', 'a new file on that filesystem, or a COW file that is not in use')
    .argument('<minor>', 'number of the image device', parseMinor)
    .action(
      async (
        device: string,
        cowFile: string,
        minor: number,
        options: Options,
        command: Command,
      ) => {
        const { hostPath, withConnection, SLOW_CALL_MS } = await import('../connection.js');
        await withConnection(command, async (connection) => {
          const request = {
            blockDevice: hostPath(connection, device, 'block device'),
            cowFile: hostPath(connection, cowFile, 'cow file'),
            minor,
            cowSizeBytes: options.f,
            cacheSizeBytes: options.c,
            ignoreErrors: options.i === true,
            requestId: randomUUID(),
            leaseSeconds: 0,
          };
          await connection.snapshots.setupSnapshot(request, SLOW_CALL_MS);
        });
      },
    );
}
