// SPDX-License-Identifier: Apache-2.0
// --dry-run: what a call would do, after the checks that calls which only read allow. The errors have the exit codes that
// the real calls have.
import { posix } from 'node:path';
import type { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import type {
  ReconfigureSnapshotRequest,
  ReloadSnapshotRequest,
  RenewLeaseRequest,
  SetupSnapshotRequest,
  TransitionToSnapshotRequest,
} from '../../../proto/gen/elio/v1/snapshot.js';
import { TrackerState, type Snapshot } from '../../../proto/gen/elio/v1/types.js';
import type { Connection } from '../connection.js';
import { checkCache, describeOrigin, findDevice, type SnapshotSizes } from '../backup/origin.js';
import { obstacle } from '../backup/resume.js';
import { baseOf, type Choices } from '../backup/source.js';
import type { BackupContent, BackupTarget } from '../backup/target.js';
import { toMib } from '../../../agent/src/driver/cow-size.js';
import { refusalOfCowSize } from '../../../agent/src/services/refusal.js';
import { CliError, EXIT, type ExitCode } from '../errors.js';
import { formatBytes, formatDuration } from '../output.js';
import { listSnapshots, stateName } from '../snapshots.js';

/** A refusal like one of the agent's. */
function refuse(connection: Connection, message: string, exitCode: ExitCode): CliError {
  return new CliError(`${connection.label}: ${message}`, exitCode);
}

function plan(connection: Connection, what: string): string {
  return `${connection.label}: would ${what}`;
}

/** The snapshot of a minor; rejects when there is none. */
async function snapshotOf(connection: Connection, minor: number): Promise<Snapshot> {
  const { snapshot } = await connection.snapshots.getSnapshot({ minor });
  if (snapshot) return snapshot;
  throw refuse(connection, 'the agent gave no snapshot: is it of this version?', EXIT.failed);
}

function checkState(connection: Connection, s: Snapshot, wanted: TrackerState): void {
  if (s.error !== 0) {
    throw refuse(
      connection,
      `snapshot ${String(s.minor)} has failed (${String(s.error)}): destroy it and set it up again`,
      EXIT.state,
    );
  }
  if (s.state === wanted) return;
  throw refuse(
    connection,
    `snapshot ${String(s.minor)} is in the state ${stateName(s.state)}, and ${stateName(wanted)} is needed`,
    EXIT.state,
  );
}

async function checkMinorIsFree(connection: Connection, minor: number | undefined): Promise<void> {
  const taken = (await listSnapshots(connection)).find((s) => s.minor === minor);
  if (!taken) return;
  throw refuse(
    connection,
    `minor ${String(taken.minor)} is in use by ${taken.blockDevice}: take what \`elioctl get-free-minor\` prints`,
    EXIT.state,
  );
}

/** The device on which a path is, as far as the mount points of block devices tell. */
function deviceOf(devices: readonly BlockDevice[], path: string): BlockDevice | undefined {
  let best: BlockDevice | undefined;
  let length = 0;
  for (const device of devices) {
    for (const mountPoint of device.mountPoints) {
      const inside = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
      if (inside && mountPoint.length > length) [best, length] = [device, mountPoint.length];
    }
  }
  return best;
}

async function checkCowFile(
  connection: Connection,
  device: BlockDevice,
  cowFile: string,
  cowSizeBytes: bigint,
): Promise<void> {
  const { blockDevices } = await connection.hosts.listBlockDevices({});
  const [mountPoint = ''] = device.mountPoints;
  if (deviceOf(blockDevices, posix.normalize(cowFile))?.path !== device.path) {
    throw refuse(
      connection,
      `${cowFile} is not on ${device.path}: give a path below ${mountPoint}`,
      EXIT.usage,
    );
  }
  const refusal = refusalOfCowSize(device, toMib(cowSizeBytes));
  if (refusal !== '') throw refuse(connection, refusal, EXIT.usage);
}

/** The size in words; without one it is a tenth of the origin. */
function cowSizeText(device: BlockDevice, cowSizeBytes: bigint): string {
  return cowSizeBytes === 0n
    ? `10 % of the device (${formatBytes(device.sizeBytes / 10n)})`
    : formatBytes(cowSizeBytes);
}

const COW_FILE_UNCHECKED = 'not checked: the room for the COW file, and what is at its path';

export async function planSetup(
  connection: Connection,
  request: SetupSnapshotRequest,
): Promise<string> {
  await checkCache(connection, request.cacheSizeBytes);
  await checkMinorIsFree(connection, request.minor);
  const device = await findDevice(connection, request.blockDevice);
  const tracker =
    device.minor === undefined ? undefined : await snapshotOf(connection, device.minor);
  if (tracker?.error === 0) {
    throw refuse(
      connection,
      `${device.path} is tracked already, as snapshot ${String(tracker.minor)}: use that one, or destroy it`,
      EXIT.usage,
    );
  }
  const [mountPoint] = device.mountPoints;
  if (mountPoint === undefined) {
    throw refuse(
      connection,
      `${device.path} is not mounted: mount it read-write first`,
      EXIT.usage,
    );
  }
  if (device.readOnly) {
    throw refuse(
      connection,
      `${device.path} is mounted read-only: remount it read-write`,
      EXIT.usage,
    );
  }
  // Of a tracker that has failed nothing speaks against a new one.
  if (tracker === undefined && device.refusal !== '') {
    throw refuse(connection, `${device.path}: ${device.refusal}`, EXIT.state);
  }
  await checkCowFile(connection, device, request.cowFile, request.cowSizeBytes);
  return plan(
    connection,
    `take snapshot ${String(request.minor)} of ${device.path} (${device.filesystem} on ${mountPoint}) with the COW file ${request.cowFile} of ${cowSizeText(device, request.cowSizeBytes)}; ${COW_FILE_UNCHECKED}`,
  );
}

export async function planReload(
  connection: Connection,
  mode: 'snapshot' | 'incremental',
  request: ReloadSnapshotRequest,
): Promise<string> {
  await checkCache(connection, request.cacheSizeBytes);
  await checkMinorIsFree(connection, request.minor);
  const device = await findDevice(connection, request.blockDevice);
  if (device.mountPoints.length > 0 && !device.readOnly) {
    throw refuse(
      connection,
      `${device.path} is mounted for writing: unmount it, reload, and mount it again`,
      EXIT.state,
    );
  }
  return plan(
    connection,
    `expect ${device.path} to be mounted, and go on with its ${mode} tracking as snapshot ${String(request.minor)} if the COW file ${request.cowFile} of its filesystem proves that nothing was missed`,
  );
}

export async function planTransitionToIncremental(
  connection: Connection,
  minor: number,
): Promise<string> {
  const s = await snapshotOf(connection, minor);
  checkState(connection, s, TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT);
  return plan(
    connection,
    `remove the image ${s.imageDevice} and go on recording what changes on ${s.blockDevice}; not checked: whether the image is in use`,
  );
}

export async function planTransitionToSnapshot(
  connection: Connection,
  request: TransitionToSnapshotRequest,
): Promise<string> {
  const s = await snapshotOf(connection, request.minor);
  checkState(connection, s, TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL);
  const device = await findDevice(connection, s.blockDevice);
  await checkCowFile(connection, device, request.cowFile, request.cowSizeBytes);
  return plan(
    connection,
    `take the next snapshot of ${s.blockDevice} with the COW file ${request.cowFile} of ${cowSizeText(device, request.cowSizeBytes)}, and leave ${s.cowFile} where it is; ${COW_FILE_UNCHECKED}`,
  );
}

/** Only an active tracker's COW file is deleted with it. */
function isActive({ state }: Snapshot): boolean {
  return (
    state === TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT ||
    state === TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL
  );
}

export async function planDestroy(connection: Connection, minor: number): Promise<string> {
  const s = await snapshotOf(connection, minor);
  const fate = isActive(s) ? 'delete its COW file' : 'leave its COW file';
  return plan(
    connection,
    `end the tracking of ${s.blockDevice} (snapshot ${String(minor)}, ${stateName(s.state)}) and ${fate} ${s.cowFile}; not checked: whether the image is in use`,
  );
}

export async function planReconfigure(
  connection: Connection,
  request: ReconfigureSnapshotRequest,
): Promise<string> {
  await checkCache(connection, request.cacheSizeBytes);
  const s = await snapshotOf(connection, request.minor);
  if (s.error !== 0) checkState(connection, s, s.state);
  const limit =
    request.cacheSizeBytes === 0n ? "the module's default" : formatBytes(request.cacheSizeBytes);
  return plan(
    connection,
    `change the limit of the index cache of snapshot ${String(s.minor)} from ${formatBytes(s.cacheSizeBytes)} to ${limit}`,
  );
}

export async function planRenewLease(
  connection: Connection,
  request: RenewLeaseRequest,
): Promise<string> {
  const s = await snapshotOf(connection, request.minor);
  checkState(connection, s, TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT);
  const seconds = request.leaseSeconds ?? s.lease?.durationSeconds ?? 0;
  const what =
    seconds === 0
      ? 'have no lease'
      : `have a lease that ends ${formatDuration(seconds)} after it was last used`;
  return plan(connection, `let snapshot ${String(s.minor)} of ${s.blockDevice} ${what}`);
}

/** What to expect of a backup of which an interrupted run has left something. */
export function leftoverText(unfinished: boolean): string {
  return unfinished
    ? '; what an interrupted run has left may be finished or thrown away first'
    : '';
}

/** What a call would find, without the lock that it would take. */
export interface Glance<T> {
  found: T;
  unfinished: boolean;
}

export async function planBackup(
  connection: Connection,
  path: string,
  { found: target, unfinished }: Glance<BackupTarget>,
  choices: Choices & SnapshotSizes,
): Promise<string> {
  const device = await findDevice(connection, path);
  await target.checkMayWrite(await describeOrigin(connection, device));
  if (device.mountPoints.length === 0 || device.readOnly) {
    throw refuse(
      connection,
      `${device.path} is not mounted read-write: mount it read-write first`,
      EXIT.usage,
    );
  }
  const tracker =
    device.minor === undefined ? undefined : await snapshotOf(connection, device.minor);
  const record = target.unfinished;
  if (record && obstacle(record, tracker, target, choices) === '') {
    const { offset_bytes: offset, transfer } = record;
    return plan(
      connection,
      `go on at ${formatBytes(BigInt(offset))} with the interrupted transfer of snapshot ${String(transfer.cookie.seq_id)} of ${device.path} to ${target.path}; not checked: whether what is there of it is undamaged, without which it would begin anew`,
    );
  }
  // A tracker keeps the cache that it has.
  if (tracker?.error !== 0) await checkCache(connection, choices.cacheSizeBytes);
  const base = baseOf(target, choices);
  const why = choices.full ? 'asked for by --full' : target.whyNone;
  const type = base
    ? `what has changed since snapshot ${String(base.cookie.seq_id)}, or in full if that is not known`
    : `in full (${why})`;
  const start = tracker
    ? `take the next snapshot of ${device.path} (snapshot ${String(tracker.minor)}, ${tracker.error === 0 ? stateName(tracker.state) : 'failed: it begins anew'})`
    : `start tracking ${device.path}`;
  return plan(
    connection,
    `${start} and bring ${target.path} up to date: ${type}${leftoverText(unfinished)}`,
  );
}

export async function planRestore(
  connection: Connection,
  path: string,
  { found: backup, unfinished }: Glance<BackupContent>,
  onlyChanged: boolean,
): Promise<string> {
  const { sizeBytes } = backup;
  const device = await findDevice(connection, path);
  const [mountPoint] = device.mountPoints;
  if (mountPoint !== undefined) {
    throw refuse(
      connection,
      `${device.path} is mounted on ${mountPoint}: unmount it, or give another target`,
      EXIT.state,
    );
  }
  if (device.minor !== undefined) {
    throw refuse(
      connection,
      `${device.path} is tracked as snapshot ${String(device.minor)}: destroy that, or give another target`,
      EXIT.state,
    );
  }
  if (device.sizeBytes < BigInt(sizeBytes)) {
    throw refuse(
      connection,
      `${device.path} has ${String(device.sizeBytes)} bytes and the backup ${String(sizeBytes)}: give a larger target`,
      EXIT.state,
    );
  }
  return plan(
    connection,
    `overwrite ${onlyChanged ? 'what differs on ' : ''}${device.path} with ${backup.name} (${formatBytes(BigInt(sizeBytes))}) and verify it there${leftoverText(unfinished)}; not checked: whether another program uses the device`,
  );
}
