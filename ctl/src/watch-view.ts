// SPDX-License-Identifier: Apache-2.0
// What `elioctl watch` shows of its looks.
import type { Snapshot } from '../../proto/gen/elio/v1/types.js';
import type { Color } from './color.js';
import { cowFill } from './cow-fill.js';
import { messageOf, UnreachableError } from './errors.js';
import type { HostAnswer } from './hosts/ask.js';
import { formatBytes, formatTable, paintRows } from './output.js';
import { changedBytes, snapshotJson, stateCell } from './snapshots.js';

/** One snapshot of one look, or a host that did not answer. */
export type WatchRow =
  | { host: string; failure: Error }
  | {
      host: string;
      snapshot: Snapshot;
      /** How full the COW file is, from 0 to 1; undefined: it takes no copies, or that is not known. */
      fill: number | undefined;
      /** Bytes of the origin that have changed per second since the look before; undefined: there was none. */
      bytesPerSecond: number | undefined;
    };

interface Seen {
  atMs: number;
  instant: string;
  changedBytes: bigint;
}

/** Remembers the look before, for the rates. */
export class WatchHistory {
  private seen = new Map<string, Seen>();

  look(answers: readonly HostAnswer<Snapshot[]>[], atMs: number): WatchRow[] {
    const now = new Map<string, Seen>();
    const rows = answers.flatMap(({ host, answer, failure }): WatchRow[] => {
      if (failure) return [{ host, failure }];
      return (answer ?? []).map((snapshot) => {
        const id = JSON.stringify([host, snapshot.minor]);
        const { cookie } = snapshot;
        const instant = `${cookie?.uuid ?? ''} ${String(cookie?.seqId ?? 0n)}`;
        const current = { atMs, instant, changedBytes: changedBytes(snapshot) };
        now.set(id, current);
        const bytesPerSecond = rateOf(this.seen.get(id), current);
        return { host, snapshot, fill: cowFill(snapshot), bytesPerSecond };
      });
    });
    this.seen = now;
    return rows;
  }
}

/** The counter begins anew with each snapshot: only looks at the same one can be compared. */
function rateOf(before: Seen | undefined, now: Seen): number | undefined {
  if (before?.instant !== now.instant || now.atMs <= before.atMs) return undefined;
  const bytes = Number(now.changedBytes - before.changedBytes);
  return (Math.max(bytes, 0) * 1000) / (now.atMs - before.atMs);
}

const BAR_WIDTH = 10;

/** 0.25 -> "[##        ]  25 %". */
function fillCell(fill: number | undefined): string {
  if (fill === undefined) return '-';
  const done = '#'.repeat(Math.floor(fill * BAR_WIDTH));
  return `[${done.padEnd(BAR_WIDTH)}] ${String(Math.floor(fill * 100)).padStart(3)} %`;
}

/** Of a snapshot that is about to fail, or has. */
function colorOf(row: WatchRow): Color | undefined {
  if ('failure' in row || row.snapshot.error !== 0) return 'red';
  if (row.fill === undefined) return undefined;
  if (row.fill >= 0.95) return 'red';
  return row.fill >= 0.8 ? 'yellow' : undefined;
}

function cellsOf(row: WatchRow): string[] {
  if ('failure' in row) {
    const state = row.failure instanceof UnreachableError ? 'unreachable' : 'failed';
    return [row.host, '-', '-', state];
  }
  const { host, snapshot, fill, bytesPerSecond } = row;
  const rate =
    bytesPerSecond === undefined ? '-' : `${formatBytes(BigInt(Math.round(bytesPerSecond)))}/s`;
  return [
    host,
    String(snapshot.minor),
    snapshot.blockDevice,
    stateCell(snapshot),
    fillCell(fill),
    String(snapshot.nrChangedBlocks),
    rate,
  ];
}

const COLUMNS = ['HOST', 'MINOR', 'DEVICE', 'STATE', 'COW FILE', 'CHANGED BLOCKS', 'RATE'];

export interface LineOptions {
  /** Cut lines to that many characters. */
  width?: number;
  /** Begin each line with the time of the look. */
  time?: Date;
}

/** The head, and a line for each row. */
export function tableLines(rows: readonly WatchRow[], options: LineOptions): string[] {
  const time = options.time === undefined ? [] : [options.time.toISOString()];
  const head = options.time === undefined ? COLUMNS : ['TIME'.padEnd(24), ...COLUMNS];
  const cells = rows.map((row) => [...time, ...cellsOf(row)]);
  const lines = formatTable(head, cells).split('\n');
  const cut = lines.map((line) => line.slice(0, options.width)).join('\n');
  const painted = paintRows(cut, (i) => {
    const row = rows[i];
    return row && colorOf(row);
  });
  return painted.split('\n');
}

/** JSON, an object a line. */
export function jsonLines(rows: readonly WatchRow[], time: Date): string[] {
  return rows.map((row) => {
    const head = { time: time.toISOString(), host: row.host };
    if ('failure' in row) return JSON.stringify({ ...head, message: messageOf(row.failure) });
    const { snapshot, fill, bytesPerSecond } = row;
    return JSON.stringify({
      ...head,
      ...snapshotJson(snapshot),
      cow_fill: fill ?? null,
      changed_bytes_per_second: bytesPerSecond ?? null,
    });
  });
}
