// SPDX-License-Identifier: Apache-2.0
import { realpath } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import { TrackerState, type Cookie, type Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { driverError, type IoctlSubject } from '../driver/errors.js';
import type { BlockRun, RunList } from '../changes/run-list.js';
import { cowUsedBytes } from '../driver/cow-size.js';
import { BLOCK_SIZE, COW_ON_BDEV, IMAGE_PREFIX, STATE } from '../driver/layout.js';
import { IoctlError, type SnapDriver, type TrackerInfo } from '../driver/snap-driver.js';
import { AgentError, isErrnoException } from '../errors.js';
import { deviceSizeBytes } from '../os/block-devices.js';
import { fileExtents } from '../os/extents.js';
import { blockDeviceNumber, pathInMounts, readMounts } from '../os/mounts.js';
import { readStableIds } from '../os/stable-ids.js';
import type { ChainStore, Position } from '../state/chains.js';
import type { Leases } from '../state/leases.js';

const STATES = [
  TrackerState.TRACKER_STATE_DORMANT_INCREMENTAL,
  TrackerState.TRACKER_STATE_DORMANT_SNAPSHOT,
  TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL,
  TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT,
  TrackerState.TRACKER_STATE_UNVERIFIED_INCREMENTAL,
  TrackerState.TRACKER_STATE_UNVERIFIED_SNAPSHOT,
];

export function imageDevice(minor: number): string {
  return `${IMAGE_PREFIX}${String(minor)}`;
}

function hasImage(info: TrackerInfo): boolean {
  return (info.state & STATE.SNAPSHOT) !== 0n && (info.state & STATE.UNVERIFIED) === 0n;
}

/** Snapshot mode, the filesystem mounted, and nothing has failed. */
export function isInSnapshotMode({ state, error }: TrackerInfo): boolean {
  return state === (STATE.SNAPSHOT | STATE.ACTIVE) && error === 0;
}

/** Incremental mode, the filesystem mounted, and nothing has failed. */
export function isInIncrementalMode({ state, error }: TrackerInfo): boolean {
  return state === STATE.ACTIVE && error === 0;
}

/** What driver, filesystem and chain together know of the trackers. */
export class Trackers {
  /** Origin -> its stable id, which it has for as long as it is tracked. */
  private readonly ids = new Map<string, string>();

  constructor(
    readonly driver: SnapDriver,
    readonly chains: ChainStore,
    readonly leases: Leases,
    private readonly sizeOf: (device: string) => Promise<bigint> = deviceSizeBytes,
  ) {}

  /** Runs an ioctl; its failure becomes an AgentError that names the subject. */
  async call<T>(subject: IoctlSubject, task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (error) {
      throw driverError(error, subject);
    }
  }

  info(minor: number): Promise<TrackerInfo> {
    return this.call({ minor }, () => this.driver.info(minor));
  }

  async list(): Promise<TrackerInfo[]> {
    const infos: TrackerInfo[] = [];
    for (const minor of await this.call({}, () => this.driver.minors())) {
      try {
        infos.push(await this.driver.info(minor));
      } catch (error) {
        // It has gone in the meantime.
        if (error instanceof IoctlError && error.code === 'ENOENT') continue;
        throw driverError(error, { minor });
      }
    }
    return infos;
  }

  async position(info: TrackerInfo): Promise<Position> {
    const sizeBytes = await this.sizeBytes(info);
    const cowFileBlocks = (): Promise<BlockRun[]> => this.cowFileBlocks(info);
    const changedBefore = (): Promise<RunList | undefined> => this.changedBefore(info);
    return { uuid: info.uuid, seqId: info.seqId, sizeBytes, cowFileBlocks, changedBefore };
  }

  /** The image keeps the size that the origin had when it was set up: the origin may have grown since. */
  private async sizeBytes(info: TrackerInfo): Promise<bigint> {
    const ofImage = hasImage(info) ? await this.sizeOf(imageDevice(info.minor)) : 0n;
    return ofImage === 0n ? this.sizeOf(info.blockDevice) : ofImage;
  }

  /** The blocks that the COW file of a snapshot touches; it must have its full size still. */
  private async cowFileBlocks(info: TrackerInfo): Promise<BlockRun[]> {
    const extents = await fileExtents(await this.cowFilePath(info));
    const size = extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0n);
    if (size < info.cowSizeBytes) throw new Error(`the COW file ${info.cowFile} was cut`);
    const block = BigInt(BLOCK_SIZE);
    const runs = extents.map(({ offsetBytes, lengthBytes }) => {
      const first = offsetBytes / block;
      const end = (offsetBytes + lengthBytes + block - 1n) / block;
      return { first: Number(first), count: Number(end - first) };
    });
    return runs.sort((a, b) => a.first - b.first);
  }

  private async changedBefore({ minor, uuid, seqId }: TrackerInfo): Promise<RunList | undefined> {
    try {
      return await this.driver.changedBlocks(minor, uuid, seqId - 1n);
    } catch (error) {
      if (error instanceof IoctlError && error.code === 'ESTALE') return undefined;
      throw error;
    }
  }

  /** With a cookie that is known already the chain is not asked. */
  async snapshot(info: TrackerInfo, cookie?: Cookie): Promise<Snapshot> {
    const position = await this.position(info);
    return {
      minor: info.minor,
      blockDevice: info.blockDevice,
      cowFile: info.cowFile,
      imageDevice: hasImage(info) ? imageDevice(info.minor) : '',
      state: STATES[Number(info.state)] ?? TrackerState.TRACKER_STATE_UNSPECIFIED,
      stateBits: info.state,
      error: info.error,
      cacheSizeBytes: info.cacheSizeBytes,
      cowSizeBytes: info.cowSizeBytes,
      cookie: cookie ?? (await this.chains.presentCookie(position)),
      version: info.version,
      nrChangedBlocks: info.nrChangedBlocks,
      ignoreErrors: info.ignoreErrors,
      cowOnBdev: (info.flags & COW_ON_BDEV) !== 0,
      sizeBytes: position.sizeBytes,
      cowUsedBytes:
        info.state === (STATE.SNAPSHOT | STATE.ACTIVE)
          ? cowUsedBytes(position.sizeBytes, info.nrChangedBlocks)
          : 0n,
      lease: this.leases.of(info),
      stableId: await this.stableId(info),
    };
  }

  private async stableId({ blockDevice }: TrackerInfo): Promise<string> {
    const known = this.ids.get(blockDevice);
    if (known !== undefined) return known;
    const path = await realpath(blockDevice).catch(() => blockDevice);
    const found = (await readStableIds()).get(path) ?? '';
    this.ids.set(blockDevice, found);
    return found;
  }

  /** The tracker has been destroyed, and its chain with it. */
  async forget({ uuid, blockDevice }: TrackerInfo): Promise<void> {
    this.ids.delete(blockDevice);
    // First what needs no space.
    await this.chains.end(uuid);
    await this.leases.end(uuid);
  }

  /** Ends the chains of trackers that were lost; false while a tracker is awaited that has not told yet which chain is its own. */
  async endLostChains(): Promise<boolean> {
    const infos = await this.list();
    const isAwaited = ({ state, error }: TrackerInfo): boolean =>
      (state & STATE.UNVERIFIED) !== 0n && error === 0;
    if (infos.some(isAwaited)) return false;
    await this.chains.endLost(infos.map(({ uuid }) => uuid));
    return true;
  }

  /** The tracker, which must have an image that answers. */
  async withImage(minor: number): Promise<TrackerInfo> {
    const info = await this.info(minor);
    if (info.error !== 0) {
      throw new AgentError(
        status.FAILED_PRECONDITION,
        'SNAPSHOT_FAILED',
        `snapshot ${String(minor)} has failed (${String(info.error)}): destroy it, set it up again and take a full backup`,
        { minor: String(minor), error: String(info.error) },
      );
    }
    if (!hasImage(info)) {
      throw new AgentError(
        status.FAILED_PRECONDITION,
        'NO_IMAGE',
        `snapshot ${String(minor)} has no image: it is in incremental mode; run transition-to-snapshot first`,
        { minor: String(minor) },
      );
    }
    return info;
  }

  /**
   * Rejects when the image is not that of the snapshot any more, or has failed meanwhile: with ignore_errors it then reads as zeros,
   * and what was read of it must not be taken for good.
   */
  async checkStillThatImage(
    minor: number,
    { uuid, seqId }: Pick<Position, 'uuid' | 'seqId'>,
  ): Promise<void> {
    const info = await this.withImage(minor);
    if (info.uuid === uuid && info.seqId === seqId) return;
    throw new AgentError(
      status.DATA_LOSS,
      'IMAGE_FAILED',
      `snapshot ${String(minor)} moved on while it was read`,
      { minor: String(minor) },
    );
  }

  /** A failed read of the image is told with the reason why the snapshot failed. */
  async causeOfFailedRead(minor: number, error: unknown): Promise<unknown> {
    if (!isErrnoException(error) || error.code !== 'EIO') return error;
    const info = await this.info(minor).catch(() => undefined);
    const cause =
      info && info.error !== 0 ? `it failed with ${String(info.error)}` : 'see the kernel log';
    return new AgentError(
      status.DATA_LOSS,
      'IMAGE_FAILED',
      `the image of snapshot ${String(minor)} cannot be read: ${cause}; destroy the snapshot, set it up again and take a full`,
      { minor: String(minor), error: String(info?.error ?? 0) },
    );
  }

  /** Absolute path of the current COW file, through any mount of its filesystem. */
  async cowFilePath(info: TrackerInfo): Promise<string> {
    const device = await blockDeviceNumber(info.blockDevice);
    const path =
      device === undefined ? undefined : pathInMounts(await readMounts(), device, info.cowFile);
    if (path === undefined) {
      throw new AgentError(
        status.FAILED_PRECONDITION,
        'NOT_MOUNTED',
        `no mount of ${info.blockDevice} shows its COW file ${info.cowFile}`,
        { device: info.blockDevice },
      );
    }
    return path;
  }
}
