// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { status, type handleUnaryCall, type ServiceError } from '@grpc/grpc-js';
import {
  GetSnapshotRequest,
  ListSnapshotsRequest,
  ReconfigureSnapshotRequest,
  ReloadIncrementalRequest,
  ReloadSnapshotRequest,
  SetupSnapshotRequest,
  TransitionToSnapshotRequest,
  type SnapshotServiceServer,
} from '../../../proto/gen/elio/v1/snapshot.js';
import { IoctlError, type SnapDriver, type TrackerInfo } from '../driver/snap-driver.js';
import { createLog } from '../log.js';
import { ChainStore } from '../state/chains.js';
import { Leases } from '../state/leases.js';
import { RequestLog } from '../state/requests.js';
import { Scratch } from '../testing/filesystem-image.js';
import { until } from '../testing/until.js';
import { Hooks, type HookSubject } from './hooks.js';
import { SnapshotService } from './snapshot-service.js';
import { Streams } from './streams.js';
import { Trackers } from './trackers.js';

const MIB = 1n << 20n;

/** The trackers of a driver that has no devices. */
class MemoryDriver {
  readonly infos = new Map<number, TrackerInfo>();

  add(minor: number, state: bigint): void {
    this.infos.set(minor, {
      minor,
      flags: 2,
      state,
      error: 0,
      cacheSizeBytes: MIB,
      cowSizeBytes: MIB,
      seqId: 1n,
      uuid: String(minor).repeat(32),
      cowFile: '/cow',
      blockDevice: `/dev/nodisk${String(minor)}`,
      version: 1n,
      nrChangedBlocks: 0n,
      ignoreErrors: false,
    });
  }

  private of(minor: number): TrackerInfo {
    const info = this.infos.get(minor);
    if (!info) throw new IoctlError('INFO', 'ENOENT');
    return info;
  }

  readonly driver: Partial<SnapDriver> = {
    info: (minor) => Promise.resolve().then(() => ({ ...this.of(minor) })),
    minors: () => Promise.resolve([...this.infos.keys()].sort()),
    reconfigure: (minor, cacheSizeBytes) => {
      this.infos.set(minor, { ...this.of(minor), cacheSizeBytes });
      return Promise.resolve();
    },
    changedBlocks: () => Promise.reject(new IoctlError('CHANGES', 'ESTALE')),
    setup: ({ minor }) => {
      this.add(minor, 3n);
      return Promise.resolve();
    },
    destroy: (minor) => {
      this.infos.delete(minor);
      return Promise.resolve();
    },
    transitionToSnapshot: (minor) => {
      const info = this.of(minor);
      this.infos.set(minor, { ...info, state: 3n, seqId: info.seqId + 1n });
      return Promise.resolve();
    },
  };
}

class MemoryTrackers extends Trackers {
  override cowFilePath(): Promise<string> {
    return Promise.resolve('/cow');
  }
}

/** Hooks that last until they are let go, before and after the snapshot. */
class HeldHooks extends Hooks {
  private gates: (() => void)[] = [];

  constructor() {
    super({ pre_snapshot: [], post_snapshot: [] }, createLog('error'));
  }

  private held(): Promise<void> {
    return new Promise((resolve) => this.gates.push(resolve));
  }

  get areRunning(): boolean {
    return this.gates.length > 0;
  }

  letGo(): void {
    this.gates.shift()?.();
  }

  override async around<T>(_subject: HookSubject, snapshot: () => Promise<T>): Promise<T> {
    await this.held();
    const value = await snapshot();
    await this.held();
    return value;
  }
}

describe('the snapshots of a host', () => {
  let scratch: Scratch;
  let memory: MemoryDriver;
  let hooks: HeldHooks;
  let chains: ChainStore;
  let trackers: Trackers;
  let service: SnapshotServiceServer;

  before(async () => {
    scratch = await Scratch.make();
  });
  after(() => scratch.remove());
  beforeEach(() => {
    memory = new MemoryDriver();
    hooks = new HeldHooks();
    chains = new ChainStore(scratch.path('chains'));
    beginService();
  });

  function beginService(): void {
    const leases = new Leases(scratch.path('leases'), () => Promise.resolve());
    const driver = memory.driver as SnapDriver;
    trackers = new MemoryTrackers(driver, chains, leases, () => Promise.resolve(64n * MIB));
    const requests = new RequestLog(scratch.directory);
    const changed = (): Promise<void> => Promise.resolve();
    const streams = new Streams();
    service = new SnapshotService(trackers, requests, hooks, streams, changed).handlers();
  }

  function call<Q, A>(handler: handleUnaryCall<Q, A>, request: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      const incoming = { request, once: () => undefined } as unknown as Parameters<
        typeof handler
      >[0];
      handler(incoming, (error, answer) => {
        if (error instanceof Error) reject(error);
        else resolve(answer as A);
      });
    });
  }

  /** minor -> seq_id, nonce and whether there is an image, as the list and each one for itself tell. */
  async function told(): Promise<Map<number, [bigint, string, boolean]>> {
    const { snapshots } = await call(service.listSnapshots, ListSnapshotsRequest.create());
    const known = new Map<number, [bigint, string, boolean]>();
    for (const { minor, cookie, imageDevice } of snapshots) {
      const { snapshot } = await call(service.getSnapshot, GetSnapshotRequest.create({ minor }));
      assert.deepEqual(snapshot?.cookie, cookie);
      known.set(minor, [cookie?.seqId ?? 0n, cookie?.nonce ?? '', imageDevice !== '']);
    }
    return known;
  }

  it('are told as they were while hooks run, and their transition is not lost', async () => {
    for (const minor of [1, 2]) {
      memory.add(minor, 2n);
      const info = await trackers.info(minor);
      await chains.begin(await trackers.position(info));
    }
    const before = await told();
    const request = TransitionToSnapshotRequest.create({ minor: 1, cowFile: '/cow2' });
    const taken = call(service.transitionToSnapshot, request);
    await until('the hooks before it run', () => hooks.areRunning);
    assert.deepEqual(await told(), before);
    hooks.letGo();
    await until('the hooks after it run', () => hooks.areRunning);
    assert.equal(memory.infos.get(1)?.seqId, 2n);
    assert.deepEqual(await told(), before);
    hooks.letGo();
    const { snapshot } = await taken;
    const after = await told();
    const [seqId, nonce, hasImage] = after.get(1) ?? [];
    assert.deepEqual([seqId, nonce, hasImage], [2n, snapshot?.cookie?.nonce, true]);
    assert.notEqual(nonce, '');
    assert.deepEqual(after.get(2), before.get(2));
  });

  describe('whose driver refuses a transition', () => {
    /** Why the agent refuses a transition with a COW file of so many MiB, of which the driver only says EINVAL. */
    async function refusal(
      cowSizeMib: bigint,
      meanwhile: () => void = () => undefined,
    ): Promise<ServiceError> {
      memory.driver.transitionToSnapshot = () => {
        meanwhile();
        return Promise.reject(new IoctlError('TRANSITION_SNAP', 'EINVAL'));
      };
      const cowSizeBytes = cowSizeMib * MIB;
      const request = TransitionToSnapshotRequest.create({
        minor: 1,
        cowFile: '/cow2',
        cowSizeBytes,
      });
      const refused = call(service.transitionToSnapshot, request).then(
        () => assert.fail('it was not refused'),
        (error: unknown) => error as ServiceError,
      );
      await until('the hooks before it run', () => hooks.areRunning);
      hooks.letGo();
      return refused;
    }

    it('name the smallest COW file when theirs is too small', async () => {
      memory.add(1, 2n);
      const { code, details } = await refusal(1n);
      assert.equal(code, status.INVALID_ARGUMENT);
      assert.match(details, /1 MiB is too small for \/dev\/nodisk1: give at least 2 MiB/);
    });

    it('say what the driver said when no more can be found out', async () => {
      memory.add(1, 2n);
      const { code, details } = await refusal(1n, () => {
        memory.driver.info = () => Promise.reject(new IoctlError('INFO', 'EIO'));
      });
      assert.equal(code, status.FAILED_PRECONDITION);
      assert.match(details, /not in incremental mode, or it has failed/);
    });

    it('name their state when that is why', async () => {
      const states = [
        [3n, 0],
        [2n, -27],
        [0n, 0],
      ] as const;
      for (const [state, error] of states) {
        memory.add(1, state);
        memory.infos.set(1, { ...(await trackers.info(1)), error });
        const { code, details } = await refusal(1n);
        assert.equal(code, status.FAILED_PRECONDITION);
        assert.match(details, /not in incremental mode, or it has failed/);
      }
    });
  });

  it('have no cache of more than half of the memory', async () => {
    memory.add(1, 3n);
    const cacheSizeBytes = BigInt(totalmem());
    const half = cacheSizeBytes / 2n;
    const made = { blockDevice: '/dev/nodisk3', cowFile: '/cow', minor: 3, cacheSizeBytes };
    for (const refused of [
      call(service.setupSnapshot, SetupSnapshotRequest.create(made)),
      call(service.reloadSnapshot, ReloadSnapshotRequest.create(made)),
      call(service.reloadIncremental, ReloadIncrementalRequest.create(made)),
      call(
        service.reconfigureSnapshot,
        ReconfigureSnapshotRequest.create({ minor: 1, cacheSizeBytes }),
      ),
    ])
      await assert.rejects(refused, {
        code: status.INVALID_ARGUMENT,
        details: /half of the memory/,
      });
    assert.deepEqual([...memory.infos.keys()], [1]);
    const request = ReconfigureSnapshotRequest.create({ minor: 1, cacheSizeBytes: half });
    const { snapshot } = await call(service.reconfigureSnapshot, request);
    assert.equal(snapshot?.cacheSizeBytes, half);
  });

  it('are none when what the agent remembers of one cannot be written', async () => {
    await writeFile(scratch.path('file'), '');
    chains = new ChainStore(scratch.path('file'));
    beginService();
    const request = SetupSnapshotRequest.create({
      blockDevice: '/dev/nodisk3',
      cowFile: '/cow',
      minor: 3,
    });
    const refused = assert.rejects(
      call(service.setupSnapshot, request),
      /ENOTDIR.*nothing is left/,
    );
    await until('the hooks before it run', () => hooks.areRunning);
    hooks.letGo();
    await until('the hooks after it run', () => hooks.areRunning);
    assert.ok(memory.infos.has(3));
    hooks.letGo();
    await refused;
    assert.deepEqual([...memory.infos.keys()], []);
  });
});
