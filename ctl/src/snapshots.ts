// SPDX-License-Identifier: Apache-2.0
// Snapshots as people and scripts see them.
import { TrackerState, type Cookie, type Snapshot } from '../../proto/gen/elio/v1/types.js';
import type { Connection } from './connection.js';
import type { AnswerForm } from './hosts/results.js';
import { formatBytes } from './output.js';

const BLOCK_SIZE = 4096n;

const STATES: Partial<Record<TrackerState, string>> = {
  [TrackerState.TRACKER_STATE_DORMANT_INCREMENTAL]: 'dormant incremental',
  [TrackerState.TRACKER_STATE_DORMANT_SNAPSHOT]: 'dormant snapshot',
  [TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL]: 'incremental',
  [TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT]: 'snapshot',
  [TrackerState.TRACKER_STATE_UNVERIFIED_INCREMENTAL]: 'unverified incremental',
  [TrackerState.TRACKER_STATE_UNVERIFIED_SNAPSHOT]: 'unverified snapshot',
};

/** All snapshots of a host. */
export async function listSnapshots(connection: Connection): Promise<Snapshot[]> {
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

/** The state in words; without the error that a failed snapshot has as well. */
export function stateName(state: TrackerState): string {
  return STATES[state] ?? 'unknown';
}

/** The state in a table. */
export function stateCell(s: Snapshot): string {
  return s.error === 0 ? stateName(s.state) : `failed (${String(s.error)})`;
}

export function changedBytes(s: Snapshot): bigint {
  return s.nrChangedBlocks * BLOCK_SIZE;
}

export function cookieJson(cookie: Cookie | undefined): object {
  const { uuid = '', seqId = 0n, nonce = '' } = cookie ?? {};
  return { uuid, seq_id: Number(seqId), nonce };
}

/** A snapshot as scripts see it. Sizes are bytes. */
export function snapshotJson(s: Snapshot): object {
  return {
    minor: s.minor,
    block_device: s.blockDevice,
    stable_id: s.stableId,
    cow_file: s.cowFile,
    image_device: s.imageDevice,
    state: stateName(s.state),
    error: s.error,
    size_bytes: Number(s.sizeBytes),
    cow_size_bytes: Number(s.cowSizeBytes),
    changed_bytes: Number(changedBytes(s)),
    cookie: cookieJson(s.cookie),
    lease: s.lease
      ? { duration_seconds: s.lease.durationSeconds, remaining_seconds: s.lease.remainingSeconds }
      : null,
  };
}

export const SNAPSHOT_COLUMNS = ['MINOR', 'DEVICE', 'STATE', 'CHANGED', 'SIZE', 'COW FILE'];

export function snapshotCells(s: Snapshot): string[] {
  return [
    String(s.minor),
    s.blockDevice,
    stateCell(s),
    formatBytes(changedBytes(s)),
    formatBytes(s.sizeBytes),
    s.cowFile,
  ];
}

/** The snapshot that a command has made or changed; one host prints nothing. */
export const SNAPSHOT: AnswerForm<Snapshot | undefined> = {
  columns: SNAPSHOT_COLUMNS,
  cells: (s) => (s ? snapshotCells(s) : []),
  json: (s) => (s ? snapshotJson(s) : {}),
  text: () => '',
};
