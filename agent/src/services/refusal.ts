// SPDX-License-Identifier: Apache-2.0
// Whether a device can be snapshotted as it is now, without trying it.
import {
  DEFAULT_PERCENT,
  smallestCowSizeBytes,
  smallestCowSizeMib,
  toMib,
} from '../driver/cow-size.js';

/** The filesystems that the driver takes; ext2 and ext3 are mounted by ext4's driver under their own names. */
const FILESYSTEMS = ['ext2', 'ext3', 'ext4', 'xfs'];

export interface DeviceFacts {
  /** Empty: not mounted. */
  filesystem: string;
  readOnly: boolean;
  /** Of its tracker; undefined: not tracked. */
  minor: number | undefined;
  zoned: boolean;
  swap: boolean;
  /** Devices that are made of it. */
  holders: readonly string[];
}

/** Why the driver would refuse it, and what to do; empty: nothing that can be seen from here speaks against it. */
export function refusalOf(facts: DeviceFacts): string {
  const { filesystem, holders } = facts;
  if (facts.minor !== undefined) return `it is tracked, as snapshot ${String(facts.minor)}`;
  if (facts.zoned) return 'it is a zoned device';
  if (facts.swap) return 'it is swap space';
  if (filesystem === '') {
    return holders.length > 0
      ? `it is a part of ${holders.join(', ')}: take the filesystem that is mounted from there`
      : 'no filesystem of it is mounted: mount it read-write';
  }
  if (!FILESYSTEMS.includes(filesystem))
    return `its filesystem is ${filesystem}: ${FILESYSTEMS.join(', ')} can be tracked`;
  if (facts.readOnly) return 'it is read-only: remount it read-write';
  return '';
}

/**
 * Why the driver would refuse a COW file of so many MiB for an origin, and what to do; empty: it is large enough. 0 MiB: the
 * default size.
 */
export function refusalOfCowSize(
  { path, sizeBytes }: { path: string; sizeBytes: bigint },
  cowSizeMib: bigint,
): string {
  const isDefault = cowSizeMib === 0n;
  const cowSizeBytes = isDefault ? (sizeBytes * DEFAULT_PERCENT) / 100n : cowSizeMib << 20n;
  if (cowSizeBytes >= smallestCowSizeBytes(sizeBytes)) return '';
  const size = isDefault ? 'the default size' : `${String(cowSizeMib)} MiB`;
  return `a COW file of ${size} is too small for ${path}: give at least ${String(smallestCowSizeMib(sizeBytes))} MiB (-f)`;
}

/** The module parameter cow_max_memory_default, as nearly everybody leaves it, in bytes. */
const DEFAULT_CACHE_BYTES = 300n << 20n;

/** Firmware and kernel take a little of a machine's memory before anybody is told of it: the rest is rounded up to whole 256 MiB. */
const MEMORY_UNIT_BYTES = 256n << 20n;

/**
 * Why an index cache of so many bytes is refused on a host with so much memory (0: not known), and what to do; empty: it is not. Old
 * scripts passed bytes to elioctl: what cannot be meant is refused, but never the default.
 */
export function refusalOfCache(cacheSizeBytes: bigint, memoryBytes: bigint): string {
  const units = (memoryBytes + MEMORY_UNIT_BYTES - 1n) / MEMORY_UNIT_BYTES;
  const isFine =
    cacheSizeBytes <= DEFAULT_CACHE_BYTES || cacheSizeBytes * 2n <= units * MEMORY_UNIT_BYTES;
  if (memoryBytes === 0n || isFine) return '';
  return `a cache of ${String(toMib(cacheSizeBytes))} MiB is more than half of the memory of the host; the unit of -c is MiB, not bytes (a suffix K, M or G is possible)`;
}
