// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  connect,
  createServer,
  type AddressInfo,
  type Server as NetServer,
  type Socket,
} from 'node:net';
import { Server } from '@grpc/grpc-js';
import type { Log } from '../log.js';
import { Connections } from './connections.js';
import type { Identity } from './roles.js';

const identity: Identity = { role: 'operator', name: 'uid 1000' };

describe('connections', () => {
  let net: NetServer;
  let grpc: Server;
  let connections: Connections;
  let warnings = 0;

  beforeEach(async () => {
    warnings = 0;
    net = createServer();
    net.listen(0, '127.0.0.1');
    await once(net, 'listening');
    grpc = new Server();
    const log = { warn: () => (warnings += 1) } as unknown as Log;
    const limits = { connections: 1, connections_per_client: 1, calls_per_second: 1 };
    connections = new Connections(grpc, log, limits, () => undefined);
  });
  afterEach(() => {
    grpc.forceShutdown();
    net.close();
  });

  /** Both ends of a new connection: the client's and the agent's. */
  async function connection(): Promise<[Socket, Socket]> {
    const client = connect((net.address() as AddressInfo).port, '127.0.0.1');
    const [socket] = (await once(net, 'connection')) as [Socket];
    for (const end of [client, socket]) end.on('error', () => undefined);
    return [client, socket];
  }

  /** A connection may be reset before it is closed. */
  const closeOf = (socket: Socket): Promise<unknown> =>
    new Promise((resolve) => socket.once('close', resolve));

  it('count until they are closed', async () => {
    const [client, socket] = await connection();
    connections.admit(socket, identity, '');
    assert.equal(connections.open, 1);
    const [other, refused] = await connection();
    connections.admit(refused, identity, '');
    assert.deepEqual([connections.open, refused.destroyed, warnings], [1, true, 1]);
    const closed = closeOf(socket);
    client.destroy();
    other.destroy();
    await closed;
    assert.equal(connections.open, 0);
  });

  it('that have gone before they are admitted do not count', async () => {
    const [client, socket] = await connection();
    socket.resume();
    const closed = closeOf(socket);
    client.destroy();
    await closed;
    connections.admit(socket, identity, '');
    assert.equal(connections.open, 0);
  });
});
