// SPDX-License-Identifier: Apache-2.0
import { open, rm } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { isAbsolute } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import {
  DeleteOldCowFileResponse,
  DestroySnapshotResponse,
  ReconfigureSnapshotResponse,
  ReloadIncrementalResponse,
  ReloadSnapshotResponse,
  SetupSnapshotResponse,
  TransitionToIncrementalResponse,
  TransitionToSnapshotResponse,
  type DeleteOldCowFileRequest,
  type DestroySnapshotRequest,
  type GetFreeMinorResponse,
  type GetSnapshotRequest,
  type GetSnapshotResponse,
  type ListSnapshotsRequest,
  type ListSnapshotsResponse,
  type ReconfigureSnapshotRequest,
  type ReloadIncrementalRequest,
  type ReloadSnapshotRequest,
  type RenewLeaseRequest,
  type RenewLeaseResponse,
  type SetupSnapshotRequest,
  type SnapshotServiceServer,
  type TransitionToIncrementalRequest,
  type TransitionToSnapshotRequest,
} from '../../../proto/gen/elio/v1/snapshot.js';
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { readCowHeader } from '../changes/cow-file.js';
import { toMib } from '../driver/cow-size.js';
import { PATH_MAX } from '../driver/layout.js';
import type { TrackerInfo } from '../driver/snap-driver.js';
import { AgentError, isErrnoException, toAgentError } from '../errors.js';
import { imageUsers } from '../os/image-users.js';
import { blockDeviceNumber, readMounts } from '../os/mounts.js';
import { Batches, KeyedMutex } from '../os/semaphore.js';
import { isStableId, pathOfStableId } from '../os/stable-ids.js';
import { unary } from '../server/rpc.js';
import { MAX_LEASE_SECONDS } from '../state/lease-limit.js';
import type { LeasedSnapshot } from '../state/leases.js';
import type { RequestLog } from '../state/requests.js';
import { diagnoseSetup, diagnoseTransition } from './diagnose.js';
import type { Hooks } from './hooks.js';
import { refusalOfCache } from './refusal.js';
import type { Streams } from './streams.js';
import { imageDevice, isInSnapshotMode, type Trackers } from './trackers.js';

const DEFAULT_PAGE_SIZE = 100;

/** So long an open image is waited for: udev and its like open a new one for a moment. */
const BUSY_PATIENCE_MS = 10_000;
const BUSY_STEP_MS = 200;
/** Of calls that the agent makes itself. */
const NEVER = new AbortController().signal;

function badArgument(message: string): AgentError {
  return new AgentError(status.INVALID_ARGUMENT, 'BAD_ARGUMENT', message);
}

/** Paths of callers are absolute and have nothing in them that a terminal or a log would act on. */
function checkPath(path: string, name: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(path)) throw badArgument(`${name} holds a control character`);
  if (!isAbsolute(path))
    throw badArgument(`${name} ${JSON.stringify(path)} is not an absolute path`);
  // The driver takes PATH_MAX bytes with the terminating NUL.
  if (Buffer.byteLength(path) >= PATH_MAX)
    throw badArgument(`${name} is a path of more than ${String(PATH_MAX - 1)} bytes`);
  return path;
}

/** An origin as callers name it: a path, or a stable id of a device that is there. */
async function originPath(text: string): Promise<string> {
  if (!isStableId(text)) return checkPath(text, 'block_device');
  const path = await pathOfStableId(text);
  if (path !== undefined) return path;
  throw new AgentError(
    status.NOT_FOUND,
    'PATH_NOT_FOUND',
    `no device, or more than one, has the stable id ${text}: \`elioctl devices\` shows those that there are`,
    { device: text },
  );
}

function checkLease(seconds: number): number {
  if (seconds <= MAX_LEASE_SECONDS) return seconds;
  throw badArgument(
    `lease_seconds ${String(seconds)} is more than ${String(MAX_LEASE_SECONDS)} (a week)`,
  );
}

function checkCache(cacheSizeBytes: bigint): bigint {
  const refusal = refusalOfCache(cacheSizeBytes, BigInt(totalmem()));
  if (refusal === '') return cacheSizeBytes;
  throw new AgentError(status.INVALID_ARGUMENT, 'CACHE_TOO_LARGE', refusal);
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** The driver's ioctls as RPCs. Calls for one tracker run one at a time. */
export class SnapshotService {
  private readonly mutex = new KeyedMutex<string>();
  /** Of each call that changes a tracker or is about to, by minor: what the tracker is when the call begins. */
  private readonly changes = new Map<number, Promise<Snapshot>[]>();
  /** Many clients ask for the same at the same time: one question to the driver answers all that came before it. */
  private readonly reads = new Batches((minor: number) => this.look(minor));

  constructor(
    private readonly trackers: Trackers,
    private readonly requests: RequestLog,
    private readonly hooks: Hooks,
    private readonly streams: Streams,
    /** Told when something has changed. */
    private readonly changed: () => Promise<void>,
  ) {}

  /** The handlers, for the gRPC server. */
  handlers(): SnapshotServiceServer {
    return {
      setupSnapshot: unary((r) => this.noting(this.setup(r))),
      reloadSnapshot: unary((r) => this.noting(this.reloadSnapshot(r))),
      reloadIncremental: unary((r) => this.noting(this.reloadIncremental(r))),
      transitionToIncremental: unary((r, signal) =>
        this.noting(this.transitionToIncremental(r, signal)),
      ),
      transitionToSnapshot: unary((r) => this.noting(this.transitionToSnapshot(r))),
      destroySnapshot: unary((r, signal) => this.noting(this.destroy(r, signal))),
      reconfigureSnapshot: unary((r, signal) => this.noting(this.reconfigure(r, signal))),
      getSnapshot: unary((r) => this.get(r)),
      listSnapshots: unary((r) => this.list(r)),
      getFreeMinor: unary(() => this.freeMinor()),
      renewLease: unary((r) => this.renewLease(r)),
      deleteOldCowFile: unary((r) => this.deleteOldCowFile(r)),
    };
  }

  /** A call that changes trackers, or has tried to: whoever watches is told. */
  private async noting<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } finally {
      await this.changed();
    }
  }

  /** Runs a call that the driver refuses while the image is open, until it is closed. */
  private async whenClosed(
    minor: number,
    signal: AbortSignal,
    task: () => Promise<void>,
  ): Promise<void> {
    const deadline = Date.now() + BUSY_PATIENCE_MS;
    for (;;) {
      try {
        await task();
        return;
      } catch (error) {
        if (!hasCode(error, 'EBUSY') || Date.now() >= deadline) {
          throw await this.withUsers(minor, error);
        }
      }
      await sleep(BUSY_STEP_MS, undefined, { signal });
    }
  }

  private async withUsers(minor: number, error: unknown): Promise<unknown> {
    if (!hasCode(error, 'EBUSY')) return error;
    const known = [
      ...this.streams.describe(minor),
      ...(await imageUsers(imageDevice(minor), minor)),
    ];
    const users = known.join(', ');
    return new AgentError(
      status.ABORTED,
      'IMAGE_IN_USE',
      `the image ${imageDevice(minor)} is in use (${users === '' ? `fuser -v ${imageDevice(minor)} shows by whom` : users}): unmount or close it, then try again`,
      { minor: String(minor), errno: 'EBUSY', users },
    );
  }

  private async snapshotOf(minor: number): Promise<Snapshot> {
    return this.trackers.snapshot(await this.trackers.info(minor));
  }

  private async freeMinorNumber(): Promise<number> {
    return this.trackers.call({}, () => this.trackers.driver.freeMinor());
  }

  private async setup(r: SetupSnapshotRequest): Promise<SetupSnapshotResponse> {
    const blockDevice = await originPath(r.blockDevice);
    const leaseSeconds = checkLease(r.leaseSeconds);
    const cowFile = checkPath(r.cowFile, 'cow_file');
    const cowSizeMib = toMib(r.cowSizeBytes);
    const cacheSizeBytes = checkCache(r.cacheSizeBytes);
    return this.requests.once(r.requestId, 'SetupSnapshot', SetupSnapshotResponse, () =>
      // One at a time: two callers without a minor must not get the same.
      this.mutex.run('setup', async () => {
        const minor = r.minor ?? (await this.freeMinorNumber());
        const { ignoreErrors } = r;
        try {
          await this.betweenHooks(blockDevice, minor, () =>
            this.trackers.call({ minor, device: blockDevice, cowFile }, () =>
              this.trackers.driver.setup({
                blockDevice,
                cowFile,
                minor,
                cowSizeMib,
                cacheSizeBytes,
                ignoreErrors,
              }),
            ),
          );
        } catch (error) {
          if (!(error instanceof AgentError)) throw error;
          const attempt = { blockDevice, cowFile, cowSizeMib, minor };
          const better = this.trackers
            .list()
            .then((trackers) => diagnoseSetup(error, attempt, trackers));
          throw (await better.catch(() => undefined)) ?? error;
        }
        return this.begin(minor, leaseSeconds).catch(async (error: unknown) => {
          throw await this.undoSetup(minor, error);
        });
      }),
    );
  }

  /** What the agent has to remember of a tracker that the driver has just set up. */
  private async begin(minor: number, leaseSeconds: number): Promise<SetupSnapshotResponse> {
    const info = await this.trackers.info(minor);
    await this.trackers.chains.begin(await this.trackers.position(info));
    await this.trackers.leases.grant(info, leaseSeconds);
    return { snapshot: await this.trackers.snapshot(info) };
  }

  /** Nobody would look after a tracker that its caller believes has not come to be. The error says what has become of it. */
  private async undoSetup(minor: number, error: unknown): Promise<AgentError> {
    const { code, reason, message, metadata } = toAgentError(error);
    const fate = await this.end(minor, NEVER).then(
      async (info) => {
        // Where nothing could be written nothing can be taken back either: the chain is no tracker's.
        await this.trackers.forget(info).catch(() => undefined);
        return 'the snapshot was destroyed again, nothing is left of it';
      },
      (failure: unknown) =>
        `snapshot ${String(minor)} was set up and is left (${toAgentError(failure).message}): destroy it`,
    );
    return new AgentError(code, reason, `${message}; ${fate}`, metadata);
  }

  private async reload(
    name: 'RELOAD_SNAP' | 'RELOAD_INC',
    r: ReloadSnapshotRequest | ReloadIncrementalRequest,
  ): Promise<{ snapshot: Snapshot }> {
    const blockDevice = await originPath(r.blockDevice);
    const cowFile = checkPath(r.cowFile, 'cow_file');
    const cacheSizeBytes = checkCache(r.cacheSizeBytes);
    const minor = r.minor ?? (await this.freeMinorNumber());
    const { ignoreErrors } = r;
    await this.trackers.call({ minor, device: blockDevice, cowFile }, () =>
      this.trackers.driver.reload(name, {
        blockDevice,
        cowFile,
        minor,
        cacheSizeBytes,
        ignoreErrors,
      }),
    );
    return { snapshot: await this.snapshotOf(minor) };
  }

  private reloadSnapshot(r: ReloadSnapshotRequest): Promise<ReloadSnapshotResponse> {
    return this.requests.once(r.requestId, 'ReloadSnapshot', ReloadSnapshotResponse, () =>
      this.reload('RELOAD_SNAP', r),
    );
  }

  private reloadIncremental(r: ReloadIncrementalRequest): Promise<ReloadIncrementalResponse> {
    return this.requests.once(r.requestId, 'ReloadIncremental', ReloadIncrementalResponse, () =>
      this.reload('RELOAD_INC', r),
    );
  }

  private async betweenHooks(
    blockDevice: string,
    minor: number,
    task: () => Promise<void>,
  ): Promise<void> {
    const device = await blockDeviceNumber(blockDevice);
    const mounts = (await readMounts()).filter((m) => m.device === device && m.root === '/');
    const mountPoints = mounts.map(({ mountPoint }) => mountPoint);
    await this.hooks.around({ blockDevice, minor, mountPoints }, task);
  }

  /** For what is short: who only looks waits for it. */
  private onTracker<T>(minor: number, task: () => Promise<T>): Promise<T> {
    return this.mutex.run(String(minor), task);
  }

  /** For what may take long, by a hook, a freeze or an open image: nobody who only looks waits for it. */
  private async changing<T>(minor: number, task: () => Promise<T>): Promise<T> {
    const calls = this.changes.get(minor) ?? [];
    this.changes.set(minor, calls);
    let begin: (before: Promise<Snapshot>) => void = () => undefined;
    const atBeginning = new Promise<Snapshot>((resolve) => (begin = resolve));
    calls.push(atBeginning);
    try {
      return await this.onTracker(minor, async () => {
        begin(this.snapshotOf(minor));
        await atBeginning.catch(() => undefined);
        return task();
      });
    } finally {
      void calls.shift();
      if (calls.length === 0) this.changes.delete(minor);
    }
  }

  /**
   * A tracker as it is. While a call changes it the chain must not be asked, which would take the call's transition for one that has
   * not happened: the cookie is then the one before, and so is all else once the tracker has another.
   */
  private async look(minor: number): Promise<Snapshot> {
    const [change] = this.changes.get(minor) ?? [];
    if (!change) return this.onTracker(minor, () => this.snapshotOf(minor));
    const before = await change;
    const info = await this.trackers.info(minor);
    const isSame = before.cookie?.uuid === info.uuid && before.cookie.seqId === info.seqId;
    return isSame ? this.trackers.snapshot(info, before.cookie) : before;
  }

  private transitionToIncremental(
    r: TransitionToIncrementalRequest,
    signal: AbortSignal,
  ): Promise<TransitionToIncrementalResponse> {
    const { minor } = r;
    return this.requests.once(
      r.requestId,
      'TransitionToIncremental',
      TransitionToIncrementalResponse,
      () =>
        this.changing(minor, async () => {
          await this.toIncremental(minor, signal);
          return { snapshot: await this.snapshotOf(minor) };
        }),
    );
  }

  private async toIncremental(minor: number, signal: AbortSignal): Promise<void> {
    await this.trackers.call({ minor }, () =>
      this.whenClosed(minor, signal, () => this.trackers.driver.transitionToIncremental(minor)),
    );
    await this.trackers.leases.end((await this.trackers.info(minor)).uuid);
  }

  /** Nobody has used a snapshot for the time of its lease. Rejects when its image is in use. */
  async endOfLease({ uuid, seqId }: LeasedSnapshot): Promise<void> {
    const tracker = (await this.trackers.list()).find((t) => t.uuid === uuid);
    if (!tracker) {
      await this.trackers.leases.end(uuid);
      return;
    }
    const { minor } = tracker;
    await this.noting(
      this.changing(minor, async () => {
        const now = await this.trackers.info(minor);
        const isThat = now.uuid === uuid && now.seqId === seqId;
        // Renewed at the last moment, or another snapshot, or one that has failed: there is nothing to end.
        if (isThat && (this.trackers.leases.of(now)?.remainingSeconds ?? 1) > 0) return;
        if (isThat && isInSnapshotMode(now)) await this.toIncremental(minor, NEVER);
        else await this.trackers.leases.end(uuid);
      }),
    );
  }

  private transitionToSnapshot(
    r: TransitionToSnapshotRequest,
  ): Promise<TransitionToSnapshotResponse> {
    const { minor } = r;
    const leaseSeconds = checkLease(r.leaseSeconds);
    const cowFile = checkPath(r.cowFile, 'cow_file');
    const cowSizeMib = toMib(r.cowSizeBytes);
    return this.requests.once(
      r.requestId,
      'TransitionToSnapshot',
      TransitionToSnapshotResponse,
      () =>
        this.changing(minor, async () => {
          const before = await this.trackers.info(minor);
          const oldCowFile = await this.trackers.cowFilePath(before);
          const position = await this.trackers.position(before);
          await this.trackers.chains.prepareTransition(position, oldCowFile);
          const { blockDevice } = before;
          try {
            await this.betweenHooks(blockDevice, minor, () =>
              this.trackers.call({ minor, device: blockDevice, cowFile }, () =>
                this.trackers.driver.transitionToSnapshot(minor, cowFile, cowSizeMib),
              ),
            );
          } catch (error) {
            if (!(error instanceof AgentError) || error.reason !== 'WRONG_STATE') throw error;
            const attempt = { blockDevice, cowFile, cowSizeMib };
            const better = this.trackers
              .info(minor)
              .then((now) => diagnoseTransition(error, attempt, now, position.sizeBytes));
            throw (await better.catch(() => undefined)) ?? error;
          }
          await this.trackers.leases.grant(await this.trackers.info(minor), leaseSeconds);
          return { snapshot: await this.snapshotOf(minor), oldCowFile };
        }),
    );
  }

  private destroy(
    r: DestroySnapshotRequest,
    signal: AbortSignal,
  ): Promise<DestroySnapshotResponse> {
    const { minor } = r;
    return this.requests.once(r.requestId, 'DestroySnapshot', DestroySnapshotResponse, () =>
      this.changing(minor, async () => {
        await this.trackers.forget(await this.end(minor, signal));
        return {};
      }),
    );
  }

  /** Has the driver destroy a tracker, and its COW file with it; resolves with what it was. */
  private async end(minor: number, signal: AbortSignal): Promise<TrackerInfo> {
    const info = await this.trackers.info(minor);
    await this.trackers.call({ minor, device: info.blockDevice }, () =>
      this.whenClosed(minor, signal, () => this.trackers.driver.destroy(minor)),
    );
    return info;
  }

  private reconfigure(
    r: ReconfigureSnapshotRequest,
    signal: AbortSignal,
  ): Promise<ReconfigureSnapshotResponse> {
    const { minor } = r;
    const cacheSizeBytes = checkCache(r.cacheSizeBytes);
    return this.requests.once(r.requestId, 'ReconfigureSnapshot', ReconfigureSnapshotResponse, () =>
      this.changing(minor, async () => {
        await this.trackers.call({ minor }, () =>
          this.whenClosed(minor, signal, () =>
            this.trackers.driver.reconfigure(minor, cacheSizeBytes),
          ),
        );
        return { snapshot: await this.snapshotOf(minor) };
      }),
    );
  }

  private async get(r: GetSnapshotRequest): Promise<GetSnapshotResponse> {
    return { snapshot: await this.reads.get(r.minor) };
  }

  /** All trackers, in ascending minor; none without the module. */
  async all(): Promise<Snapshot[]> {
    const infos = await this.trackers.list().catch((error: unknown) => {
      if (error instanceof AgentError && error.reason === 'MODULE_NOT_LOADED') return [];
      throw error;
    });
    return this.describe(infos);
  }

  private async describe(infos: readonly TrackerInfo[]): Promise<Snapshot[]> {
    const snapshots: Snapshot[] = [];
    for (const { minor } of infos) {
      try {
        // Asked anew: what a call has changed meanwhile would be taken for a volume that was set back.
        snapshots.push(await this.look(minor));
      } catch (error) {
        if (!(error instanceof AgentError) || error.reason !== 'NO_SUCH_TRACKER') throw error;
      }
    }
    return snapshots;
  }

  private async list(r: ListSnapshotsRequest): Promise<ListSnapshotsResponse> {
    if (r.pageSize < 0) throw badArgument('page_size is negative');
    if (!/^\d{0,3}$/.test(r.pageToken)) throw badArgument('page_token is not one that was given');
    const infos = (await this.trackers.list()).filter((t) => t.minor >= Number(r.pageToken));
    const page = infos.slice(0, r.pageSize === 0 ? DEFAULT_PAGE_SIZE : r.pageSize);
    const next = infos[page.length];
    const snapshots = await this.describe(page);
    return { snapshots, nextPageToken: next === undefined ? '' : String(next.minor) };
  }

  private async freeMinor(): Promise<GetFreeMinorResponse> {
    return { minor: await this.freeMinorNumber() };
  }

  private async renewLease(r: RenewLeaseRequest): Promise<RenewLeaseResponse> {
    const { minor } = r;
    const seconds = r.leaseSeconds === undefined ? undefined : checkLease(r.leaseSeconds);
    return this.onTracker(minor, async () => {
      const info = await this.trackers.withImage(minor);
      if (seconds === undefined) this.trackers.leases.renew(info);
      else await this.trackers.leases.grant(info, seconds);
      return { snapshot: await this.trackers.snapshot(info) };
    });
  }

  private deleteOldCowFile(r: DeleteOldCowFileRequest): Promise<DeleteOldCowFileResponse> {
    const { minor } = r;
    return this.requests.once(r.requestId, 'DeleteOldCowFile', DeleteOldCowFileResponse, () =>
      this.onTracker(minor, async () => {
        const position = await this.trackers.position(await this.trackers.info(minor));
        const old = await this.trackers.chains.oldCowFile(position);
        if (!old) return { cowFile: '' };
        const existed = await this.removeCowFile(old.path, position.uuid, old.seqId);
        await this.trackers.chains.forgetOldCowFile(position);
        return { cowFile: existed ? old.path : '' };
      }),
    );
  }

  /** Deletes a COW file after its header was proved; false when it is not there any more. */
  private async removeCowFile(path: string, uuid: string, seqId: bigint): Promise<boolean> {
    let file;
    try {
      file = await open(path, 'r');
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT') return false;
      throw error;
    }
    try {
      const header = await readCowHeader(file);
      if (header?.uuid !== uuid || header.seqId !== seqId) {
        throw new AgentError(
          status.FAILED_PRECONDITION,
          'NOT_OUR_COW_FILE',
          `${path} is no longer the old COW file of this snapshot: it was not touched`,
          { cow_file: path },
        );
      }
    } finally {
      await file.close();
    }
    await rm(path);
    return true;
  }
}
