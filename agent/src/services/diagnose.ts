// SPDX-License-Identifier: Apache-2.0
// Why the driver refused a set-up, where its errno has several meanings: looked up after the fact, for a message that helps.
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { status } from '@grpc/grpc-js';
import { smallestCowSizeMib } from '../driver/cow-size.js';
import type { TrackerInfo } from '../driver/snap-driver.js';
import { AgentError } from '../errors.js';
import { deviceSizeBytes } from '../os/block-devices.js';
import { blockDeviceNumber, deviceNumber, readMounts } from '../os/mounts.js';

interface Attempt {
  blockDevice: string;
  cowFile: string;
  cowSizeMib: bigint;
  minor: number;
}

/** A better error than the one that the errno alone led to, or undefined. */
export async function diagnoseSetup(
  error: AgentError,
  attempt: Attempt,
  trackers: readonly TrackerInfo[],
): Promise<AgentError | undefined> {
  if (error.reason === 'SETUP_REFUSED') return diagnoseRefusal(attempt, trackers);
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

async function diagnoseRefusal(
  attempt: Attempt,
  trackers: readonly TrackerInfo[],
): Promise<AgentError | undefined> {
  const { blockDevice, cowFile } = attempt;
  const metadata = { ioctl: 'SETUP_SNAP', errno: 'EINVAL', device: blockDevice, cow_file: cowFile };
  const invalid = (reason: string, message: string): AgentError =>
    new AgentError(status.INVALID_ARGUMENT, reason, message, metadata);

  const device = await blockDeviceNumber(blockDevice);
  if (device === undefined) return undefined;
  for (const tracker of trackers) {
    if (tracker.error === 0 && (await blockDeviceNumber(tracker.blockDevice)) === device) {
      return invalid(
        'ALREADY_TRACKED',
        `${blockDevice} is tracked already, as snapshot ${String(tracker.minor)}: use that one, or destroy it`,
      );
    }
  }
  const mounts = (await readMounts()).filter((mount) => mount.device === device);
  if (mounts.length === 0) {
    return invalid('NOT_MOUNTED', `${blockDevice} is not mounted: mount it read-write first`);
  }
  if (mounts.every((mount) => mount.readOnly)) {
    return invalid(
      'MOUNTED_READ_ONLY',
      `${blockDevice} is mounted read-only: remount it read-write`,
    );
  }
  const directory = await stat(dirname(cowFile)).catch(() => undefined);
  if (directory && deviceNumber(directory.dev) !== device) {
    return invalid(
      'COW_FILE_ON_ANOTHER_FILESYSTEM',
      `${cowFile} is not on ${blockDevice}: give a path below ${mounts[0]?.mountPoint ?? ''}`,
    );
  }
  const smallest = smallestCowSizeMib(await deviceSizeBytes(blockDevice));
  if (attempt.cowSizeMib !== 0n && attempt.cowSizeMib < smallest) {
    return invalid(
      'COW_FILE_TOO_SMALL',
      `a COW file of ${String(attempt.cowSizeMib)} MiB is too small for ${blockDevice}: give at least ${String(smallest)} MiB (-f)`,
    );
  }
  return undefined;
}
