// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { experimental, Server, type ServerInterceptingCallInterface } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { ChangeServiceService } from '../../../proto/gen/elio/v1/change.js';
import { DataServiceService } from '../../../proto/gen/elio/v1/data.js';
import { HostServiceService } from '../../../proto/gen/elio/v1/host.js';
import { RestoreServiceService } from '../../../proto/gen/elio/v1/restore.js';
import { SnapshotServiceService } from '../../../proto/gen/elio/v1/snapshot.js';
import type { Config } from '../config.js';
import type { Log } from '../log.js';
import type { ChangeService } from '../services/change-service.js';
import type { DataService } from '../services/data-service.js';
import type { HostService } from '../services/host-service.js';
import type { RestoreService } from '../services/restore-service.js';
import type { SnapshotService } from '../services/snapshot-service.js';
import { ReloadingCertificates } from './certificates.js';
import { guard } from './guard.js';
import { LocalListener } from './local.js';
import { identityOfCertificate, type Identity } from './roles.js';

/** dist/elio.binpb, which the build makes of the protos. */
const DESCRIPTORS = new URL('../../../elio.binpb', import.meta.url);

const GRACE_MS = 10_000;
const MAX_MESSAGE_SIZE = 4 << 20;
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

export interface Services {
  snapshots: SnapshotService;
  hosts: HostService;
  changes: ChangeService;
  data: DataService;
  restores: RestoreService;
}

function identityOfPeer(call: ServerInterceptingCallInterface): Identity | undefined {
  const certificate = call.getAuthContext().sslPeerCertificate;
  return identityOfCertificate(certificate?.subjectaltname);
}

/** The gRPC server with all its listeners. */
export class AgentServer {
  private readonly grpc = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_SIZE,
    // Clients that have vanished must not keep a reader of an image alive.
    'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
  });
  private readonly health = new HealthImplementation({ '': 'SERVING' });
  private local: LocalListener | undefined;
  private certificates: ReloadingCertificates | undefined;

  constructor(
    private readonly log: Log,
    services: Services,
  ) {
    this.grpc.addService(SnapshotServiceService, services.snapshots.handlers());
    this.grpc.addService(HostServiceService, services.hosts.handlers());
    this.grpc.addService(ChangeServiceService, services.changes.handlers());
    this.grpc.addService(DataServiceService, services.data.handlers());
    this.grpc.addService(RestoreServiceService, services.restores.handlers());
    this.health.addToServer(this.grpc);
  }

  async addReflection(): Promise<void> {
    const definition = loadFileDescriptorSetFromBuffer(await readFile(DESCRIPTORS));
    new ReflectionService(definition).addToServer(this.grpc);
  }

  async listenLocally(path: string): Promise<void> {
    this.local = await LocalListener.open(this.grpc, path, this.log);
    this.log.info('listening', { socket: path });
  }

  /** mTLS only. Resolves with the port. */
  async listenTcp(address: string, tls: Config['tls']): Promise<number> {
    this.certificates = await ReloadingCertificates.open(tls, this.log);
    const credentials = experimental.createServerCredentialsWithInterceptors(
      experimental.createCertificateProviderServerCredentials(
        this.certificates,
        this.certificates,
        true,
      ),
      [guard(identityOfPeer, this.log)],
    );
    const port = await new Promise<number>((resolve, reject) => {
      this.grpc.bindAsync(address, credentials, (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    this.log.info('listening', { address, port });
    return port;
  }

  async reloadCertificates(): Promise<void> {
    await this.certificates?.reload();
  }

  /** Health first, then a grace for what runs, then the end. */
  async stop(): Promise<void> {
    this.health.setStatus('', 'NOT_SERVING');
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
    this.certificates?.close();
  }
}
