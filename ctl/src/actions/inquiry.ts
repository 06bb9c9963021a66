// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import type { Color } from '../color.js';
import type { Connection } from '../connection.js';
import { throwFailures, type AnswerForm } from '../hosts/results.js';
import { askHostsOf, runOnHosts } from '../hosts/task.js';
import { formatBytes, formatTable, paintRows } from '../output.js';
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

/** What of some hosts is printed together: a row or an object for each thing that they have. */
interface ListForm<T> {
  columns: readonly string[];
  cells(item: T): readonly string[];
  json(item: T): object;
  color(item: T): Color | undefined;
}

async function printAll<T>(
  command: Command,
  output: OutputForm | undefined,
  ask: (connection: Connection) => Promise<readonly T[]>,
  form: ListForm<T>,
): Promise<void> {
  const answers = await askHostsOf(command, ask);
  const found = answers.flatMap(({ host, answer }) =>
    (answer ?? []).map((item) => ({ host, item })),
  );
  if (answers.some(({ answer }) => answer !== undefined)) {
    const rows = found.map(({ host, item }) => [host, ...form.cells(item)]);
    const text =
      output === 'json'
        ? JSON.stringify(found.map(({ host, item }) => ({ host, ...form.json(item) })))
        : paintRows(formatTable(['HOST', ...form.columns], rows), (i) => {
            const row = found[i];
            return row && form.color(row.item);
          });
    process.stdout.write(`${text}\n`);
  }
  throwFailures(answers);
}

const SNAPSHOTS: ListForm<Snapshot> = {
  columns: SNAPSHOT_COLUMNS,
  cells: snapshotCells,
  json: snapshotJson,
  color: ({ error }) => (error === 0 ? undefined : 'red'),
};

const DEVICES: ListForm<BlockDevice> = {
  columns: ['DEVICE', 'KIND', 'SIZE', 'FILESYSTEM', 'MOUNTED ON', 'SNAPSHOT', 'STABLE ID'],
  cells: (d) => [
    d.path,
    d.kind,
    formatBytes(d.sizeBytes),
    d.filesystem || '-',
    d.mountPoints.join(', ') || '-',
    d.minor === undefined ? '-' : String(d.minor),
    d.stableId || '-',
  ],
  json: (d) => ({
    path: d.path,
    kind: d.kind,
    parent: d.parent,
    size_bytes: Number(d.sizeBytes),
    filesystem: d.filesystem,
    mount_points: d.mountPoints,
    read_only: d.readOnly,
    minor: d.minor ?? null,
    stable_id: d.stableId,
    aliases: d.aliases,
    lower_devices: d.lowerDevices,
    refusal: d.refusal,
  }),
  color: () => undefined,
};

export async function list(command: Command, options: InquiryOptions): Promise<void> {
  await printAll(command, options.output, listSnapshots, SNAPSHOTS);
}

export async function devices(command: Command, options: InquiryOptions): Promise<void> {
  const ask = async (connection: Connection): Promise<BlockDevice[]> =>
    (await connection.hosts.listBlockDevices({})).blockDevices;
  await printAll(command, options.output, ask, DEVICES);
}
