// SPDX-License-Identifier: Apache-2.0
// The origin's side of a backup: which tracker it has, and how to get from any state to a new snapshot and back.
import { randomUUID } from 'node:crypto';
import { posix } from 'node:path';
import type { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import { TrackerState, type Cookie, type Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { SLOW_CALL_MS, type Connection } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { cookieToManifest, isSameInstant } from './manifest.js';
import { refusalOfCache } from '../../../agent/src/services/refusal.js';
import type { OriginDetails } from './target.js';

/**
 * A snapshot that is not read for so long is let go: this process has died, or its host has. Long enough for a broken connection
 * to come back.
 */
export const LEASE_SECONDS = 1800;
/** So often the lease is renewed by who does something else meanwhile. */
const RENEWAL_MS = 300_000;

/** Two names alternate: the changes are in the one while the other takes the copies. */
const COW_NAMES = ['.elio-cow-a', '.elio-cow-b'] as const;

export interface SnapshotSizes {
  cowSizeBytes: bigint;
  cacheSizeBytes: bigint;
}

/** A snapshot that was just taken. */
export interface TakenSnapshot {
  snapshot: Snapshot;
  cookie: Cookie;
  /** What the user should know about the way to it; empty: nothing. */
  note: string;
}

/** A device by its path, a link to it, or a stable id. */
export function matchDevice(
  devices: readonly BlockDevice[],
  name: string,
): BlockDevice | undefined {
  return devices.find((d) => [d.path, ...d.aliases, d.stableId].includes(name));
}

export function noSuchDevice(label: string, name: string): CliError {
  return new CliError(
    `${label}: ${name} is no block device there: give one that lsblk shows`,
    EXIT.notFound,
  );
}

/** The device as the host knows it. */
export async function findDevice(connection: Connection, name: string): Promise<BlockDevice> {
  const { blockDevices } = await connection.hosts.listBlockDevices({});
  const device = matchDevice(blockDevices, name);
  if (device) return device;
  throw noSuchDevice(connection.label, name);
}

/** What a manifest tells of where a backup comes from. */
export async function describeOrigin(
  connection: Connection,
  device: BlockDevice,
): Promise<OriginDetails> {
  const host = await connection.hosts.getHost({});
  return {
    host: host.hostname,
    machineId: host.machineId,
    blockDevice: device.path,
    stableId: device.stableId,
    agentVersion: host.agentVersion,
    moduleVersion: host.moduleVersion,
    kernelRelease: host.kernelRelease,
  };
}

/** Rejects as the agent does for an index cache of so many bytes, if the agent tells the memory of its host. */
export async function checkCache(connection: Connection, cacheSizeBytes: bigint): Promise<void> {
  const { memoryBytes } = await connection.hosts.getHost({});
  const refusal = refusalOfCache(cacheSizeBytes, memoryBytes);
  if (refusal !== '') throw new CliError(`${connection.label}: ${refusal}`, EXIT.usage);
}

/** The tracker of a device; undefined: it has none. */
export async function trackerOf(
  connection: Connection,
  device: BlockDevice,
): Promise<Snapshot | undefined> {
  if (device.minor === undefined) return undefined;
  const request = { minor: device.minor };
  return (await connection.snapshots.getSnapshot(request)).snapshot;
}

function taken(snapshot: Snapshot | undefined, note: string): TakenSnapshot {
  if (!snapshot?.cookie) throw new CliError('the agent gave no snapshot: is it of this version?');
  return { snapshot, cookie: snapshot.cookie, note };
}

/** The agent waits for 10 s in each of them, and ends the stream of a client that has vanished after 20 s. */
const END_ATTEMPTS = 3;

export class Origin {
  constructor(
    private readonly connection: Connection,
    readonly device: BlockDevice,
  ) {}

  private cowFile(name: string): string {
    const [directory] = this.device.mountPoints;
    if (directory === undefined) {
      throw new CliError(
        `${this.connection.label}: ${this.device.path} is not mounted: mount it read-write first`,
        EXIT.usage,
      );
    }
    return posix.join(directory, name);
  }

  /** Takes a snapshot, whatever state the tracker is in. */
  async takeSnapshot(sizes: SnapshotSizes): Promise<TakenSnapshot> {
    const tracker = await trackerOf(this.connection, this.device);
    if (!tracker) return this.setUp(sizes, '');
    if (tracker.error !== 0) {
      await checkCache(this.connection, sizes.cacheSizeBytes);
      await this.destroy(tracker.minor);
      const note = `snapshot ${String(tracker.minor)} had failed (${String(tracker.error)}); tracking began anew`;
      return this.setUp(sizes, note);
    }
    switch (tracker.state) {
      case TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT:
        await this.toIncremental(tracker);
        return this.nextSnapshot(tracker, sizes);
      case TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL:
        return this.nextSnapshot(tracker, sizes);
      default:
        throw new CliError(
          `snapshot ${String(tracker.minor)} of ${this.device.path} is not active: mount the filesystem, or destroy the snapshot`,
          EXIT.state,
        );
    }
  }

  private async setUp(sizes: SnapshotSizes, note: string): Promise<TakenSnapshot> {
    const request = {
      blockDevice: this.device.path,
      cowFile: this.cowFile(COW_NAMES[0]),
      minor: undefined,
      ignoreErrors: false,
      requestId: randomUUID(),
      leaseSeconds: LEASE_SECONDS,
      ...sizes,
    };
    const answer = await this.connection.snapshots.setupSnapshot(request, SLOW_CALL_MS);
    return taken(answer.snapshot, note);
  }

  private async nextSnapshot(tracker: Snapshot, sizes: SnapshotSizes): Promise<TakenSnapshot> {
    const current = posix.basename(tracker.cowFile);
    const request = {
      minor: tracker.minor,
      cowFile: this.cowFile(current === COW_NAMES[0] ? COW_NAMES[1] : COW_NAMES[0]),
      cowSizeBytes: sizes.cowSizeBytes,
      requestId: randomUUID(),
      leaseSeconds: LEASE_SECONDS,
    };
    const answer = await this.connection.snapshots.transitionToSnapshot(request, SLOW_CALL_MS);
    return taken(answer.snapshot, '');
  }

  private async destroy(minor: number): Promise<void> {
    const request = { minor, requestId: randomUUID() };
    await this.connection.snapshots.destroySnapshot(request, SLOW_CALL_MS);
  }

  /**
   * Ends snapshot mode, which may have ended with the lease. Waits for readers of the image to end: that of a client which has vanished
   * ends when the agent has noticed that.
   */
  async toIncremental(snapshot: Snapshot): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const request = { minor: snapshot.minor, requestId: randomUUID() };
      try {
        await this.connection.snapshots.transitionToIncremental(request, SLOW_CALL_MS);
        return;
      } catch (error) {
        const reason = error instanceof CliError ? error.reason : '';
        if (reason === 'WRONG_STATE' && (await this.hasEnded(snapshot))) return;
        if (reason !== 'IMAGE_IN_USE' || attempt === END_ATTEMPTS) throw error;
      }
    }
  }

  /** Does the tracker record what has changed since that very snapshot? */
  private async hasEnded({ minor, cookie }: Snapshot): Promise<boolean> {
    const { snapshot: now } = await this.connection.snapshots.getSnapshot({ minor });
    if (!now?.cookie || !cookie || now.error !== 0) return false;
    if (now.state !== TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL) return false;
    return isSameInstant(cookieToManifest(now.cookie), cookieToManifest(cookie));
  }

  /** Renews the lease of a snapshot, again and again as long as a task runs. */
  async hold<T>(minor: number, task: () => Promise<T>): Promise<T> {
    const renew = async (leaseSeconds?: number): Promise<void> => {
      // If that fails and the lease ends, it shows when the image is read.
      await this.connection.snapshots.renewLease({ minor, leaseSeconds }).catch(() => undefined);
    };
    await renew(LEASE_SECONDS);
    const timer = setInterval(() => {
      void renew();
    }, RENEWAL_MS);
    try {
      return await task();
    } finally {
      clearInterval(timer);
    }
  }

  /** The snapshot stays when nobody reads it any more. */
  async keep(minor: number): Promise<void> {
    await this.connection.snapshots.renewLease({ minor, leaseSeconds: 0 });
  }

  async deleteOldCowFile(minor: number): Promise<void> {
    const request = { minor, requestId: randomUUID() };
    await this.connection.snapshots.deleteOldCowFile(request, SLOW_CALL_MS);
  }
}
