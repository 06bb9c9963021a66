// SPDX-License-Identifier: Apache-2.0
// What keeps a block device from being overwritten, as far as a look tells. Who opens it exclusively is found out by opening it.
import { deviceSizeBytes, holdersOf, loopsOn, partitionsOf, readSwaps } from './block-devices.js';
import { blockDeviceNumber, readMounts } from './mounts.js';

export interface Obstacle {
  reason: 'TARGET_MOUNTED' | 'TARGET_TRACKED' | 'TARGET_IN_USE' | 'TARGET_TOO_SMALL';
  /** What it is, and what to do. */
  message: string;
}

/** Who uses a device, or a partition of it. */
export interface DeviceUse {
  path: string;
  /** Where it is mounted; undefined: it is not. */
  mountPoint: string | undefined;
  isSwap: boolean;
  /** Devices that are made of it. */
  holders: readonly string[];
}

/** A device that is going to be overwritten. */
export interface OverwriteTarget {
  sizeBytes: bigint;
  /** The device itself, then its partitions. */
  uses: readonly [DeviceUse, ...DeviceUse[]];
}

/** A snapshot or a tracker, and the device that it is of. */
export interface TrackedOrigin {
  minor: number;
  blockDevice: string;
}

/** Looks at a device; the path is the canonical one. */
export async function lookAtTarget(path: string): Promise<OverwriteTarget> {
  const [mounts, swaps] = await Promise.all([readMounts(), readSwaps()]);
  const useOf = async (device: string): Promise<DeviceUse> => {
    const number = await blockDeviceNumber(device);
    return {
      path: device,
      mountPoint: mounts.find((mount) => mount.device === number)?.mountPoint,
      isSwap: swaps.includes(device),
      holders: [...(await holdersOf(device)), ...(await loopsOn(device))],
    };
  };
  const partitions = await Promise.all((await partitionsOf(path)).map(useOf));
  return { sizeBytes: await deviceSizeBytes(path), uses: [await useOf(path), ...partitions] };
}

/** Why so many bytes cannot be written there; undefined: nothing speaks against it. */
export function findObstacle(
  { sizeBytes: targetBytes, uses }: OverwriteTarget,
  sizeBytes: bigint,
  trackers: readonly TrackedOrigin[],
): Obstacle | undefined {
  const [{ path: target, mountPoint }] = uses;
  if (mountPoint !== undefined) {
    return {
      reason: 'TARGET_MOUNTED',
      message: `${target} is mounted on ${mountPoint}: unmount it, or give another target`,
    };
  }
  for (const { path, ...use } of uses) {
    const tracker = trackers.find(({ blockDevice }) => blockDevice === path);
    if (tracker) {
      return {
        reason: 'TARGET_TRACKED',
        message: `${path} is tracked as snapshot ${String(tracker.minor)}: destroy that, or give another target`,
      };
    }
    const how = [
      ...(use.mountPoint === undefined ? [] : [`mounted on ${use.mountPoint}`]),
      ...(use.isSwap ? ['swapped to'] : []),
      ...(use.holders.length > 0 ? [`in use by ${use.holders.join(', ')}`] : []),
    ];
    if (how.length > 0) {
      const name = path === target ? target : `${path}, a part of ${target},`;
      return { reason: 'TARGET_IN_USE', message: `${name} is ${how.join(', ')}` };
    }
  }
  if (targetBytes >= sizeBytes) return undefined;
  return {
    reason: 'TARGET_TOO_SMALL',
    message: `${target} has ${String(targetBytes)} bytes and the backup ${String(sizeBytes)}: give a larger target`,
  };
}
