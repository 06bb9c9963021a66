// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { globalOptions, hostsOf, type Connection } from '../connection.js';
import { askAll, type HostAnswer } from '../hosts/ask.js';
import { throwFailures } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';
import { listSnapshots } from '../snapshots.js';
import { jsonLines, tableLines, WatchHistory, type WatchRow } from '../watch-view.js';

export interface WatchOptions {
  interval: number;
  count?: number;
  output: OutputForm;
}

const HOME = '\x1b[H';
const CLEAR_REST_OF_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

/** Draws over the look before; what does not fit on the terminal is counted. A terminal without a size takes everything. */
function redraw(lines: readonly string[]): void {
  const { rows } = process.stdout;
  const room = rows > 0 ? rows - 1 : Infinity;
  const shown = lines.length <= room ? lines : lines.slice(0, room - 1);
  const hidden = lines.length - shown.length;
  const all = hidden === 0 ? shown : [...shown, `... and ${String(hidden)} more`];
  const text = all.map((line) => `${line}${CLEAR_REST_OF_LINE}\n`).join('');
  process.stdout.write(`${HOME}${text}${CLEAR_BELOW}`);
}

function show(rows: readonly WatchRow[], time: Date, first: boolean, output: OutputForm): void {
  if (output === 'json') {
    for (const line of jsonLines(rows, time)) process.stdout.write(`${line}\n`);
    return;
  }
  if (process.stdout.isTTY) {
    const { columns } = process.stdout;
    const width = columns > 0 ? columns : Infinity;
    redraw([time.toLocaleString(), ...tableLines(rows, { width })]);
    return;
  }
  const [head = '', ...lines] = tableLines(rows, { time });
  for (const line of first ? [head, ...lines] : lines) process.stdout.write(`${line}\n`);
}

/** Looks until --count is reached or the user has seen enough; rejects when hosts fail in the last look. */
export async function watch(command: Command, options: WatchOptions): Promise<void> {
  const globals = globalOptions(command);
  const hosts = hostsOf(globals).map((host) => ({ ...host, connection: host.connect() }));
  const ask = ({ connection }: { connection: Connection }): Promise<Snapshot[]> =>
    listSnapshots(connection);
  const history = new WatchHistory();
  let answers: HostAnswer<Snapshot[]>[] = [];
  try {
    await interruptible(async (signal) => {
      for (let n = 1; !signal.aborted; n += 1) {
        answers = await askAll(hosts, ask, { parallel: globals.parallel });
        show(history.look(answers, Date.now()), new Date(), n === 1, options.output);
        if (n === options.count) return;
        await sleep(options.interval * 1000, undefined, { signal }).catch(() => undefined);
      }
    });
  } finally {
    for (const { connection } of hosts) connection.close();
  }
  throwFailures(answers);
}
