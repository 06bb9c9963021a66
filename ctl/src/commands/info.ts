// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { parseMinor } from '../arguments.js';

const UNVERIFIED = 4n;

/** The text of `elioctl info`, key by key as the manual page has it; sizes are bytes. */
export function infoText(s: Snapshot): string {
  const entries: [string, string | number | bigint | boolean][] = [
    ['minor', s.minor],
    ['cow_file', s.cowFile],
    ['block_device', s.blockDevice],
    ['max_cache', s.cacheSizeBytes],
  ];
  if ((s.stateBits & UNVERIFIED) === 0n) {
    entries.push(
      ['fallocate', s.cowSizeBytes],
      ['seq_id', s.cookie?.seqId ?? 0n],
      ['uuid', s.cookie?.uuid ?? ''],
    );
    if (s.version > 0n)
      entries.push(['version', s.version], ['nr_changed_blocks', s.nrChangedBlocks]);
  }
  if (s.error !== 0) entries.push(['error', s.error]);
  entries.push(
    ['state', s.stateBits],
    ['ignore_snap_errors', s.ignoreErrors ? 1 : 0],
    ['cow_on_bdev', s.cowOnBdev],
  );
  const lines = entries.map(([key, value]) => {
    const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
    return `\t"${key}": ${text}`;
  });
  return `{\n${lines.join(',\n')}\n}\n`;
}

export function addInfo(program: Command): void {
  program
    .command('info')
    .description('print what is known of a snapshot, as JSON')
    .argument('<minor>', 'number of the snapshot', parseMinor)
    .action(async (minor: number, _options: object, command: Command) => {
      const { withConnection } = await import('../connection.js');
      await withConnection(command, async (connection) => {
        const { snapshot } = await connection.snapshots.getSnapshot({ minor });
        if (snapshot) process.stdout.write(infoText(snapshot));
      });
    });
}
