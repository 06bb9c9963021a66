// SPDX-License-Identifier: Apache-2.0
// Why the driver refused a snapshot, where its errno has several meanings: looked up after the fact, for a message that helps.
import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { status } from '@grpc/grpc-js';
import type { TrackerInfo } from '../driver/snap-driver.js';
import { AgentError } from '../errors.js';
import { deviceSizeBytes } from '../os/block-devices.js';
import { blockDeviceNumber, deviceNumber, readMounts, type Mount } from '../os/mounts.js';
import { refusalOfCowSize } from './refusal.js';
import { isInIncrementalMode } from './trackers.js';

/** A snapshot that the driver refused. */
interface Attempt {
  blockDevice: string;
  cowFile: string;
  /** 0: what the driver's default is. */
  cowSizeMib: bigint;
}

/** A better error than the one that the errno alone led to, or undefined. */
export async function diagnoseSetup(
  error: AgentError,
  attempt: Attempt & { minor: number },
  trackers: readonly TrackerInfo[],
): Promise<AgentError | undefined> {
  if (error.reason === 'SETUP_REFUSED') return diagnoseRefusal(error, attempt, trackers);
  // The driver says EBUSY to a minor in use, to a frozen filesystem, an open COW file, and functions that others have hooked.
  if (error.reason !== 'MINOR_IN_USE' || trackers.some((t) => t.minor === attempt.minor))
    return undefined;
  return new AgentError(
    status.ABORTED,
    'FILESYSTEM_BUSY',
    `the filesystem of ${attempt.blockDevice} is frozen (thaw it: fsfreeze -u), somebody has ${attempt.cowFile} open, or another snapshot program or a live patch is in the way: see the kernel log, then try again`,
    error.metadata,
  );
}

/**
 * The same for a transition to snapshot that was refused with WRONG_STATE, of a tracker that now is as told: what the driver refuses to
 * one in incremental mode is the COW file. `sizeBytes` is that of the origin.
 */
export async function diagnoseTransition(
  error: AgentError,
  attempt: Attempt,
  tracker: TrackerInfo,
  sizeBytes: bigint,
): Promise<AgentError | undefined> {
  if (!isInIncrementalMode(tracker)) return undefined;
  const device = await blockDeviceNumber(attempt.blockDevice);
  const mounts = (await readMounts()).filter((mount) => mount.device === device);
  return diagnoseCowFile(error, attempt, mounts, sizeBytes);
}

function invalid({ metadata }: AgentError, reason: string, message: string): AgentError {
  return new AgentError(status.INVALID_ARGUMENT, reason, message, metadata);
}

async function diagnoseRefusal(
  error: AgentError,
  attempt: Attempt,
  trackers: readonly TrackerInfo[],
): Promise<AgentError | undefined> {
  const { blockDevice } = attempt;
  const device = await blockDeviceNumber(blockDevice);
  if (device === undefined) return undefined;
  for (const tracker of trackers) {
    if (tracker.error === 0 && (await blockDeviceNumber(tracker.blockDevice)) === device) {
      return invalid(
        error,
        'ALREADY_TRACKED',
        `${blockDevice} is tracked already, as snapshot ${String(tracker.minor)}: use that one, or destroy it`,
      );
    }
  }
  const mounts = (await readMounts()).filter((mount) => mount.device === device);
  if (mounts.length === 0) {
    return invalid(
      error,
      'NOT_MOUNTED',
      `${blockDevice} is not mounted: mount it read-write first`,
    );
  }
  if (mounts.every((mount) => mount.readOnly)) {
    return invalid(
      error,
      'MOUNTED_READ_ONLY',
      `${blockDevice} is mounted read-only: remount it read-write`,
    );
  }
  const sizeBytes = await deviceSizeBytes(await realpath(blockDevice).catch(() => blockDevice));
  return diagnoseCowFile(error, attempt, mounts, sizeBytes);
}

/** `mounts` are those of the origin, whose size is in bytes. */
async function diagnoseCowFile(
  error: AgentError,
  { blockDevice, cowFile, cowSizeMib }: Attempt,
  [mount]: readonly Mount[],
  sizeBytes: bigint,
): Promise<AgentError | undefined> {
  const directory = await stat(dirname(cowFile)).catch(() => undefined);
  if (mount && directory && deviceNumber(directory.dev) !== mount.device) {
    return invalid(
      error,
      'COW_FILE_ON_ANOTHER_FILESYSTEM',
      `${cowFile} is not on ${blockDevice}: give a path below ${mount.mountPoint}`,
    );
  }
  const refusal = refusalOfCowSize({ path: blockDevice, sizeBytes }, cowSizeMib);
  return refusal === '' ? undefined : invalid(error, 'COW_FILE_TOO_SMALL', refusal);
}
