// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { setDefaultHighWaterMark } from 'node:stream';
import { Server } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import {
  ChangeServiceService,
  type ChangeServiceServer,
} from '../../../proto/gen/elio/v1/change.js';
import type { DataServiceServer } from '../../../proto/gen/elio/v1/data.js';
import { EventServiceService, type EventServiceServer } from '../../../proto/gen/elio/v1/event.js';
import {
  HostServiceService,
  type HostServiceServer,
  type Problem,
} from '../../../proto/gen/elio/v1/host.js';
import {
  RestoreServiceService,
  type RestoreServiceServer,
} from '../../../proto/gen/elio/v1/restore.js';
import {
  SnapshotServiceService,
  type SnapshotServiceServer,
} from '../../../proto/gen/elio/v1/snapshot.js';
import type { Config } from '../config.js';
import { DESCRIPTORS } from '../descriptors.js';
import type { Log } from '../log.js';
import { dataService } from '../services/block-messages.js';
import { AwaitedCertificates } from './certificates.js';
import { Connections } from './connections.js';
import type { CallObserver } from './guard.js';
import { LocalListener } from './local.js';
import { TcpListener } from './tcp.js';

const GRACE_MS = 10_000;
const MAX_MESSAGE_SIZE = 4 << 20;
const WAITING_MESSAGES = 2;
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

interface Service<Handlers> {
  handlers(): Handlers;
}

export interface Services {
  snapshots: Service<SnapshotServiceServer>;
  hosts: Service<HostServiceServer>;
  changes: Service<ChangeServiceServer>;
  data: Service<DataServiceServer>;
  events: Service<EventServiceServer>;
  restores: Service<RestoreServiceServer>;
}

/** Names for health checks: each tells of one kind of problem, "" whether the agent can do its work. */
const HEALTH_OF_REASON: Readonly<Record<string, string>> = {
  MODULE_NOT_LOADED: 'elio.module',
  VERSION_MISMATCH: 'elio.version',
  SNAPSHOT_FAILED: 'elio.snapshots',
  CERTIFICATE_EXPIRES: 'elio.certificate',
};

/** The gRPC server with all its listeners. */
export class AgentServer {
  private readonly grpc: Server;
  private readonly health = new HealthImplementation({ '': 'SERVING' });
  private readonly connections: Connections;
  private local: LocalListener | undefined;
  private tcp: TcpListener | undefined;
  private awaited: AwaitedCertificates | undefined;

  constructor(
    private readonly log: Log,
    private readonly limits: Config['limits'],
    observer: CallObserver,
    services: Services,
  ) {
    // Of all streams of objects: 16 messages of a MiB, the usual number, would wait for each slow reader.
    setDefaultHighWaterMark(true, WAITING_MESSAGES);
    this.grpc = new Server({
      'grpc.max_receive_message_length': MAX_MESSAGE_SIZE,
      'grpc.max_concurrent_streams': limits.streams_per_connection,
      // Clients that have vanished must not keep a reader of an image alive.
      'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    });
    this.connections = new Connections(this.grpc, log, limits, observer);
    this.grpc.addService(SnapshotServiceService, services.snapshots.handlers());
    this.grpc.addService(HostServiceService, services.hosts.handlers());
    this.grpc.addService(ChangeServiceService, services.changes.handlers());
    this.grpc.addService(dataService, services.data.handlers());
    this.grpc.addService(EventServiceService, services.events.handlers());
    this.grpc.addService(RestoreServiceService, services.restores.handlers());
    this.health.addToServer(this.grpc);
  }

  async addReflection(): Promise<void> {
    const definition = loadFileDescriptorSetFromBuffer(await readFile(DESCRIPTORS));
    new ReflectionService(definition).addToServer(this.grpc);
  }

  async listenLocally(path: string): Promise<void> {
    this.local = await LocalListener.open(this.connections, path, this.log);
    this.log.info('listening', { socket: path });
  }

  async listenTcp(address: string, tls: Config['tls']): Promise<void> {
    const { connections } = this.limits;
    this.tcp = await TcpListener.open(this.connections, address, tls, connections, this.log);
    this.log.info('listening', { address, port: this.tcp.port });
  }

  /** As listenTcp, now or once there are certificates that can be used. */
  async listenTcpOnceUsable(address: string, tls: Config['tls']): Promise<void> {
    this.awaited = new AwaitedCertificates(tls, this.log, () => this.listenTcp(address, tls));
    await this.awaited.begin();
  }

  get openConnections(): number {
    return this.connections.open;
  }

  /** When the agent's certificate, or its CA's, expires; undefined: there is no TCP. */
  get certificateExpires(): Date | undefined {
    return this.tcp?.certificates.material.expires;
  }

  /** Why there is no TCP although there are certificates; empty: there is, or there are none. */
  get certificateFault(): string {
    return this.awaited?.fault ?? '';
  }

  async reloadCertificates(): Promise<void> {
    await this.awaited?.reload();
    await this.tcp?.certificates.reload();
  }

  /** For health checks: what is wrong just now. */
  setHealth(problems: readonly Problem[]): void {
    const reasons = new Set(problems.map(({ reason }) => reason));
    const set = (name: string, well: boolean): void => {
      this.health.setStatus(name, well ? 'SERVING' : 'NOT_SERVING');
    };
    set('', !reasons.has('MODULE_NOT_LOADED'));
    for (const [reason, name] of Object.entries(HEALTH_OF_REASON)) set(name, !reasons.has(reason));
  }

  /** Health first, then a grace for what runs, then the end. */
  async stop(): Promise<void> {
    this.health.setStatus('', 'NOT_SERVING');
    this.awaited?.close();
    this.tcp?.close();
    await this.local?.close();
    await new Promise<void>((resolve) => {
      const force = setTimeout(() => {
        this.grpc.forceShutdown();
        resolve();
      }, GRACE_MS);
      this.grpc.tryShutdown(() => {
        clearTimeout(force);
        resolve();
      });
    });
  }
}
