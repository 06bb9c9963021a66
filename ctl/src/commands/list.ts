// SPDX-License-Identifier: Apache-2.0
import { Option, type Command } from 'commander';
import { TrackerState, type Snapshot } from '../../../proto/gen/elio/v1/types.js';
import type { Connection } from '../connection.js';
import { formatBytes, formatTable } from '../output.js';

const BLOCK_SIZE = 4096n;

const STATES: Partial<Record<TrackerState, string>> = {
  [TrackerState.TRACKER_STATE_DORMANT_INCREMENTAL]: 'dormant incremental',
  [TrackerState.TRACKER_STATE_DORMANT_SNAPSHOT]: 'dormant snapshot',
  [TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL]: 'incremental',
  [TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT]: 'snapshot',
  [TrackerState.TRACKER_STATE_UNVERIFIED_INCREMENTAL]: 'unverified incremental',
  [TrackerState.TRACKER_STATE_UNVERIFIED_SNAPSHOT]: 'unverified snapshot',
};

/** The output option of commands that people and scripts read. */
export function outputOption(): Option {
  return new Option('--output <form>', 'how to print the result')
    .choices(['table', 'json'])
    .default('table');
}

/** A snapshot as scripts see it. Sizes are bytes. */
function jsonOf(host: string, s: Snapshot): object {
  return {
    host,
    minor: s.minor,
    block_device: s.blockDevice,
    cow_file: s.cowFile,
    image_device: s.imageDevice,
    state: STATES[s.state] ?? 'unknown',
    error: s.error,
    size_bytes: Number(s.sizeBytes),
    cow_size_bytes: Number(s.cowSizeBytes),
    changed_bytes: Number(s.nrChangedBlocks * BLOCK_SIZE),
    cookie: {
      uuid: s.cookie?.uuid ?? '',
      seq_id: Number(s.cookie?.seqId ?? 0n),
      nonce: s.cookie?.nonce ?? '',
    },
  };
}

async function listOf(connection: Connection): Promise<Snapshot[]> {
  const all: Snapshot[] = [];
  let pageToken = '';
  do {
    const request = { pageSize: 0, pageToken };
    const page = await connection.snapshots.listSnapshots(request);
    all.push(...page.snapshots);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return all;
}

function row(host: string, s: Snapshot): string[] {
  return [
    host,
    String(s.minor),
    s.blockDevice,
    s.error === 0 ? (STATES[s.state] ?? 'unknown') : `failed (${String(s.error)})`,
    formatBytes(s.nrChangedBlocks * BLOCK_SIZE),
    formatBytes(s.sizeBytes),
    s.cowFile,
  ];
}

export function addList(program: Command): void {
  program
    .command('list')
    .description('print the snapshots of one or several hosts')
    .addOption(outputOption())
    .action(async (options: { output: string }, command: Command) => {
      const { askHosts, throwFailures } = await import('../hosts.js');
      const answers = await askHosts(command, listOf);
      const found = answers.flatMap(({ host, answer }) =>
        (answer ?? []).map((snapshot) => ({ host, snapshot })),
      );
      if (answers.some(({ answer }) => answer !== undefined)) {
        const text =
          options.output === 'json'
            ? JSON.stringify(found.map(({ host, snapshot }) => jsonOf(host, snapshot)))
            : formatTable(
                ['HOST', 'MINOR', 'DEVICE', 'STATE', 'CHANGED', 'SIZE', 'COW FILE'],
                found.map(({ host, snapshot }) => row(host, snapshot)),
              );
        process.stdout.write(`${text}\n`);
      }
      throwFailures(answers);
    });
}
