// SPDX-License-Identifier: Apache-2.0
// An agent that holds its snapshots in memory: a real server over mTLS, for tests of what elioctl makes of several hosts.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Server, ServerCredentials, status, type handleUnaryCall } from '@grpc/grpc-js';
import { cowUsedBytes } from '../../../agent/src/driver/cow-size.js';
import { AgentError, toServiceError } from '../../../agent/src/errors.js';
import {
  EventServiceService,
  WatchEventsResponse,
  type EventServiceServer,
} from '../../../proto/gen/elio/v1/event.js';
import {
  BlockDevice,
  GetHostResponse,
  HostServiceService,
  type HostServiceServer,
} from '../../../proto/gen/elio/v1/host.js';
import {
  SnapshotServiceService,
  type SnapshotServiceServer,
} from '../../../proto/gen/elio/v1/snapshot.js';
import { Snapshot, TrackerState } from '../../../proto/gen/elio/v1/types.js';

/** More than the machine has on which the tests run. */
export const STUB_MEMORY_BYTES = 1n << 40n;

/** A snapshot of /dev/vdb, which is 2 GiB. */
export function stubSnapshot(minor: number, more: Partial<Snapshot> = {}): Snapshot {
  return Snapshot.fromPartial({
    minor,
    blockDevice: '/dev/vdb',
    cowFile: '/cow',
    imageDevice: `/dev/elastio-snap${String(minor)}`,
    state: TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT,
    stateBits: 3n,
    cacheSizeBytes: 300n << 20n,
    cowSizeBytes: 10n << 20n,
    cowUsedBytes: cowUsedBytes(2n << 30n, more.nrChangedBlocks ?? 100n),
    cookie: { uuid: 'e86eb4fe68e84b7d90a477e02d1311a3', seqId: 1n, nonce: '' },
    version: 1n,
    nrChangedBlocks: 100n,
    cowOnBdev: true,
    sizeBytes: 2n << 30n,
    ...more,
  });
}

function unary<Q, A>(answer: (request: Q) => A): handleUnaryCall<Q, A> {
  return (call, callback) => {
    try {
      callback(null, answer(call.request));
    } catch (error) {
      callback(toServiceError(error));
    }
  };
}

export class StubAgent {
  /** The names of the calls that would have changed something. */
  readonly changes: string[] = [];
  readonly snapshots = new Map<number, Snapshot>();
  private readonly server = new Server();

  private constructor(readonly name: string) {}

  /** Listens on a port of 127.0.0.1 with NAME.crt, NAME.key and ca.crt of a directory. */
  static async start(
    name: string,
    certificates: string,
    snapshots: readonly Snapshot[],
  ): Promise<StubAgent> {
    const agent = new StubAgent(name);
    for (const snapshot of snapshots) agent.snapshots.set(snapshot.minor, snapshot);
    agent.server.addService(SnapshotServiceService, agent.snapshotHandlers());
    agent.server.addService(HostServiceService, agent.hostHandlers());
    agent.server.addService(EventServiceService, agent.eventHandlers());
    const read = (file: string): Buffer => readFileSync(join(certificates, file));
    const pair = { cert_chain: read(`${name}.crt`), private_key: read(`${name}.key`) };
    const credentials = ServerCredentials.createSsl(read('ca.crt'), [pair], true);
    agent.port = await new Promise<number>((resolve, reject) => {
      agent.server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
        if (error) reject(error);
        else resolve(port);
      });
    });
    return agent;
  }

  port = 0;

  stop(): void {
    this.server.forceShutdown();
  }

  private snapshot(minor: number): Snapshot {
    const snapshot = this.snapshots.get(minor);
    if (snapshot) return snapshot;
    throw new AgentError(
      status.NOT_FOUND,
      'NO_SUCH_TRACKER',
      `there is no snapshot ${String(minor)}`,
    );
  }

  private device(): BlockDevice {
    const [tracker] = [...this.snapshots.values()];
    return BlockDevice.fromPartial({
      path: '/dev/vdb',
      sizeBytes: 2n << 30n,
      filesystem: 'ext4',
      kind: 'disk',
      stableId: 'SERIAL=data',
      mountPoints: ['/srv'],
      ...(tracker && { minor: tracker.minor }),
    });
  }

  private hostHandlers(): HostServiceServer {
    return {
      getHost: unary(() =>
        GetHostResponse.fromPartial({
          hostname: this.name,
          kernelRelease: '6.1.0-56-amd64',
          architecture: 'x86_64',
          agentVersion: '0.1.0',
          moduleVersion: '0.1.0',
          memoryBytes: STUB_MEMORY_BYTES,
        }),
      ),
      listBlockDevices: unary(() => ({ blockDevices: [this.device()] })),
    };
  }

  /** Event n is a COW file n % full, its token n. Each stream breaks behind its second event. */
  private eventHandlers(): EventServiceServer {
    return {
      watchEvents: (call) => {
        const last = Number(call.request.resumeToken);
        for (const percent of [last + 1, last + 2]) {
          const value = { percent, usedBytes: 0n, sizeBytes: 0n };
          call.write(
            WatchEventsResponse.fromPartial({
              resumeToken: String(percent),
              event: { $case: 'cowFill', value },
            }),
          );
        }
        call.emit('error', { code: status.UNAVAILABLE, details: 'the stub breaks the stream' });
      },
    };
  }

  /** What is not here is answered with UNIMPLEMENTED. */
  private snapshotHandlers(): SnapshotServiceServer {
    const handlers: Partial<SnapshotServiceServer> = {
      getSnapshot: unary(({ minor }) => ({ snapshot: this.snapshot(minor) })),
      listSnapshots: unary(() => ({
        snapshots: [...this.snapshots.values()],
        nextPageToken: '',
      })),
      getFreeMinor: unary(() => {
        let minor = 0;
        while (this.snapshots.has(minor)) minor += 1;
        return { minor };
      }),
      setupSnapshot: unary(({ minor = 0 }) => {
        this.changes.push('setupSnapshot');
        const snapshot = stubSnapshot(minor);
        this.snapshots.set(minor, snapshot);
        return { snapshot };
      }),
      destroySnapshot: unary(({ minor }) => {
        this.changes.push('destroySnapshot');
        this.snapshot(minor);
        this.snapshots.delete(minor);
        return {};
      }),
    };
    return handlers as SnapshotServiceServer;
  }
}
