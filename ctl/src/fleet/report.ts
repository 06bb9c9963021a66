// SPDX-License-Identifier: Apache-2.0
// The report of a run: what came of each device, in a file that is named after the time at which the run began.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../../agent/src/os/atomic-file.js';
import { AGENT_VERSION } from '../../../agent/src/version.js';
import type { BackupResult } from '../backup/backup.js';
import type { Outcome } from './carry-out.js';
import type { FleetLayout } from './layout.js';
import { backupJson, RESULTS, resultOf } from './outcomes.js';

export interface FleetRun {
  started: Date;
  finished: Date;
  /** Was it asked to end before all was done? */
  interrupted: boolean;
  outcomes: readonly Outcome<BackupResult>[];
}

/** 2026-11-28T09-32-10.123Z.json: colons are not for every filesystem. The order of the names is that of time. */
const NAME = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z\.json$/;

function nameOf(time: Date): string {
  return `${time.toISOString().replaceAll(':', '-')}.json`;
}

export function reportOf(run: FleetRun, layout: FleetLayout): object {
  const { started, finished, interrupted, outcomes } = run;
  const counts = RESULTS.map((result) => [
    result,
    outcomes.filter((one) => resultOf(one) === result).length,
  ]);
  return {
    format: 1,
    elioctl: AGENT_VERSION,
    destination: layout.root,
    started: started.toISOString(),
    finished: finished.toISOString(),
    interrupted,
    counts: Object.fromEntries(counts) as object,
    sent_bytes: outcomes.reduce((sum, { answer }) => sum + (answer?.sent_bytes ?? 0), 0),
    backups: outcomes.map((one) => backupJson(one, layout)),
  };
}

/** Writes the report, and deletes the oldest ones of more than `keep`; undefined: all stay. Returns its path. */
export async function writeReport(
  run: FleetRun,
  layout: FleetLayout,
  keep: number | undefined,
): Promise<string> {
  const path = join(layout.reports, nameOf(run.started));
  await writeFileAtomically(path, `${JSON.stringify(reportOf(run, layout), null, 2)}\n`);
  if (keep !== undefined) {
    const names = (await readdir(layout.reports)).filter((name) => NAME.test(name)).sort();
    for (const name of names.slice(0, -keep)) await rm(join(layout.reports, name));
  }
  return path;
}
