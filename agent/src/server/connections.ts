// SPDX-License-Identifier: Apache-2.0
// Connections whose other end is known, handed to the gRPC server one by one.
import type { Socket } from 'node:net';
import { experimental, ServerCredentials, type Server } from '@grpc/grpc-js';
import type { Log } from '../log.js';
import { guard, type CallObserver } from './guard.js';
import { RateLimit } from './rate-limit.js';
import type { Identity } from './roles.js';

export interface Limits {
  /** All listeners together. */
  connections: number;
  connections_per_client: number;
  calls_per_second: number;
}

/** Takes connections of known clients, as many as the limits allow. */
export class Connections {
  private readonly clients = new Map<string, { connections: number; rate: RateLimit }>();
  private count = 0;

  constructor(
    private readonly server: Server,
    private readonly log: Log,
    private readonly limits: Limits,
    private readonly observer: CallObserver,
  ) {}

  get open(): number {
    return this.count;
  }

  /** Speaks gRPC on a connection. `peer` is where it comes from, for the log; without an identity each call is refused. */
  admit(socket: Socket, identity: Identity | undefined, peer: string): void {
    // It may have gone while its end was looked up: nothing would tell of that any more.
    if (socket.destroyed) return;
    const name = identity?.name ?? '';
    const client = this.clients.get(name) ?? {
      connections: 0,
      rate: new RateLimit(this.limits.calls_per_second),
    };
    if (
      this.count >= this.limits.connections ||
      client.connections >= this.limits.connections_per_client
    ) {
      this.log.warn('connection refused: too many', { identity: name, peer });
      socket.destroy();
      return;
    }
    this.count += 1;
    client.connections += 1;
    this.clients.set(name, client);
    const interceptor = guard({ identity, peer, rate: client.rate }, this.log, this.observer);
    const credentials = experimental.createServerCredentialsWithInterceptors(
      ServerCredentials.createInsecure(),
      [interceptor],
    );
    // One for each connection, for what the interceptor knows is of this connection.
    const injector = this.server.createConnectionInjector(credentials);
    socket.once('close', () => {
      injector.destroy();
      this.count -= 1;
      client.connections -= 1;
      if (client.connections === 0) this.clients.delete(name);
    });
    injector.injectConnection(socket);
  }
}
