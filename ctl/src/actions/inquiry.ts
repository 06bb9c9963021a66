// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { throwFailures, type AnswerForm } from '../hosts/results.js';
import { askHostsOf, runOnHosts } from '../hosts/task.js';
import { formatTable, paintRows } from '../output.js';
import type { OutputForm } from '../options.js';
import { listSnapshots, SNAPSHOT_COLUMNS, snapshotCells, snapshotJson } from '../snapshots.js';

const UNVERIFIED = 4n;

export interface InquiryOptions {
  output?: OutputForm;
}

type Scalar = string | number | bigint | boolean;

/** What `elioctl info` tells, key by key as the manual page has it; sizes are bytes. */
function infoEntries(s: Snapshot): [string, Scalar][] {
  const entries: [string, Scalar][] = [
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
  return entries;
}

/** The text of `elioctl info` for one host. */
export function infoText(s: Snapshot): string {
  const lines = infoEntries(s).map(([key, value]) => {
    const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
    return `\t"${key}": ${text}`;
  });
  return `{\n${lines.join(',\n')}\n}\n`;
}

function infoJson(s: Snapshot): object {
  return Object.fromEntries(
    infoEntries(s).map(([key, value]) => [key, typeof value === 'bigint' ? Number(value) : value]),
  );
}

const INFO: AnswerForm<Snapshot | undefined> = {
  columns: SNAPSHOT_COLUMNS,
  cells: (s) => (s ? snapshotCells(s) : []),
  json: (s) => (s ? infoJson(s) : {}),
  text: (s) => (s ? infoText(s) : ''),
};

const MINOR: AnswerForm<number> = {
  columns: ['MINOR'],
  cells: (minor) => [String(minor)],
  json: (minor) => ({ minor }),
  text: (minor) => `${String(minor)}\n`,
};

export async function info(
  command: Command,
  minor: number,
  options: InquiryOptions,
): Promise<void> {
  await runOnHosts(command, options, {
    run: async (connection) => (await connection.snapshots.getSnapshot({ minor })).snapshot,
    form: INFO,
  });
}

export async function getFreeMinor(command: Command, options: InquiryOptions): Promise<void> {
  await runOnHosts(command, options, {
    run: async (connection) => (await connection.snapshots.getFreeMinor({})).minor,
    form: MINOR,
  });
}

export async function list(command: Command, options: InquiryOptions): Promise<void> {
  const answers = await askHostsOf(command, listSnapshots);
  const found = answers.flatMap(({ host, answer }) =>
    (answer ?? []).map((snapshot) => ({ host, snapshot })),
  );
  if (answers.some(({ answer }) => answer !== undefined)) {
    const text =
      options.output === 'json'
        ? JSON.stringify(found.map(({ host, snapshot }) => ({ host, ...snapshotJson(snapshot) })))
        : paintRows(
            formatTable(
              ['HOST', ...SNAPSHOT_COLUMNS],
              found.map(({ host, snapshot }) => [host, ...snapshotCells(snapshot)]),
            ),
            (i) => (found[i]?.snapshot.error === 0 ? undefined : 'red'),
          );
    process.stdout.write(`${text}\n`);
  }
  throwFailures(answers);
}
