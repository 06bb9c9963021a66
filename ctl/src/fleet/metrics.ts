// SPDX-License-Identifier: Apache-2.0
// What a run leaves for the textfile collector of Prometheus' node_exporter. Only the hosts of the run are in it: the same series in
// the files of two runs would make the collector refuse both.
import { Gauge, Registry } from 'prom-client';
import { writeFileAtomically } from '../../../agent/src/os/atomic-file.js';
import type { BackupResult } from '../backup/backup.js';
import { newestManifest } from '../sets/newest.js';
import type { Outcome } from './carry-out.js';
import type { FleetLayout } from './layout.js';

/** The collector runs as another user. */
const MODE = 0o644;

interface Place {
  host: string;
  device: string;
}

/** The devices of the run, and those of its hosts that have a backup but were not to be backed up, or not found. */
async function placesOf(
  outcomes: readonly Outcome<BackupResult>[],
  layout: FleetLayout,
): Promise<Place[]> {
  const places = new Map<string, Place>();
  const add = (host: string, device: string): void => {
    places.set(JSON.stringify([host, device]), { host, device });
  };
  for (const { host, device } of outcomes) if (device !== null) add(host, device);
  for (const host of new Set(outcomes.map((one) => one.host))) {
    for (const device of await layout.devicesOf(host)) add(host, device);
  }
  return [...places.values()];
}

/** Seconds of Unix time; 0: never. */
async function lastSuccess({ host, device }: Place, layout: FleetLayout): Promise<number> {
  const manifest = await newestManifest(layout.set(host, device));
  return manifest ? Date.parse(manifest.created) / 1000 : 0;
}

/** The text of the metrics of a run. */
export async function metricsText(
  outcomes: readonly Outcome<BackupResult>[],
  layout: FleetLayout,
): Promise<string> {
  const registry = new Registry();
  const gauge = (name: string, help: string): Gauge<'host' | 'device'> =>
    new Gauge({ name, help, labelNames: ['host', 'device'], registers: [registry] });
  const success = gauge(
    'elio_backup_last_success_seconds',
    'When the newest backup was complete (Unix time); 0: there is none',
  );
  const failed = gauge('elio_backup_failed', 'Has the last run failed to back it up? 1: yes');
  const sent = gauge('elio_backup_sent_bytes', 'Bytes that the backup of the last run streamed');
  const seconds = gauge('elio_backup_seconds', 'How long the backup of the last run took');
  for (const place of await placesOf(outcomes, layout)) {
    success.set({ ...place }, await lastSuccess(place, layout));
  }
  for (const { host, device, answer, failure, seconds: taken } of outcomes) {
    const labels = { host, device: device ?? '' };
    failed.set(labels, failure ? 1 : 0);
    if (!answer) continue;
    sent.set(labels, answer.sent_bytes);
    seconds.set(labels, taken);
  }
  return registry.metrics();
}

/** Replaces the file as a whole: the collector never sees half of it. */
export async function writeMetrics(
  path: string,
  outcomes: readonly Outcome<BackupResult>[],
  layout: FleetLayout,
): Promise<void> {
  await writeFileAtomically(path, await metricsText(outcomes, layout), MODE);
}
