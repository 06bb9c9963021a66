// SPDX-License-Identifier: Apache-2.0
// The unix socket: the kernel says who is at the other end.
import { chmod, chown, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import {
  experimental,
  ServerCredentials,
  type ConnectionInjector,
  type Server,
} from '@grpc/grpc-js';
import type { Log } from '../log.js';
import { peerCredentials } from '../os/ioctl.js';
import { guard } from './guard.js';
import type { Identity } from './roles.js';

const GROUP = 'elio';
const SOCKET_MODE = 0o660;

/** The group's number; undefined when there is no such group. */
async function groupId(name: string): Promise<number | undefined> {
  const groups = await readFile('/etc/group', 'utf8').catch(() => '');
  const fields = groups
    .split('\n')
    .map((line) => line.split(':'))
    .find(([group]) => group === name);
  return fields?.[2] === undefined ? undefined : Number(fields[2]);
}

/** Is the process in the group, by its main group or one of the others? */
async function isMember(pid: number, gid: number, group: number): Promise<boolean> {
  if (gid === group) return true;
  const text = await readFile(`/proc/${String(pid)}/status`, 'utf8').catch(() => '');
  const groups = /^Groups:\s*(.*)$/m.exec(text)?.[1] ?? '';
  return groups.split(' ').includes(String(group));
}

/** A socket of net has its descriptor in a handle that the types do not show. */
function descriptorOf(socket: Socket): number {
  const { fd } = (socket as Socket & { _handle: { fd: number } })._handle;
  return fd;
}

/** Listens on a unix socket for root (admin) and the members of the group elio (operator). */
export class LocalListener {
  private constructor(
    private readonly net: NetServer,
    private readonly path: string,
  ) {}

  static async open(server: Server, path: string, log: Log): Promise<LocalListener> {
    const group = await groupId(GROUP);
    const injectors = new Map<string, ConnectionInjector>();
    const injectorFor = (identity: Identity): ConnectionInjector => {
      const known = injectors.get(identity.name);
      if (known) return known;
      const credentials = experimental.createServerCredentialsWithInterceptors(
        ServerCredentials.createInsecure(),
        [guard(() => identity, log)],
      );
      const injector = server.createConnectionInjector(credentials);
      injectors.set(identity.name, injector);
      return injector;
    };
    const accept = async (socket: Socket): Promise<void> => {
      const { pid, uid, gid } = peerCredentials(descriptorOf(socket));
      if (uid === 0) {
        injectorFor({ role: 'admin', name: 'uid 0' }).injectConnection(socket);
      } else if (group !== undefined && (await isMember(pid, gid, group))) {
        const identity: Identity = { role: 'operator', name: `uid ${String(uid)}` };
        injectorFor(identity).injectConnection(socket);
      } else {
        log.warn('local connection refused', { pid, uid, gid });
        socket.destroy();
      }
    };
    const net = createServer({ pauseOnConnect: false }, (socket) => {
      socket.on('error', () => undefined);
      accept(socket).catch((error: unknown) => {
        log.error('local connection', { error: String(error) });
        socket.destroy();
      });
    });
    await mkdir(dirname(path), { recursive: true });
    // A socket that a killed agent left behind would make listening fail.
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      net.once('error', reject);
      net.listen(path, resolve);
    });
    await chmod(path, SOCKET_MODE);
    // As a service the agent has this group, and may not give anything away.
    if (group !== undefined && (await stat(path)).gid !== group) await chown(path, 0, group);
    return new LocalListener(net, path);
  }

  async close(): Promise<void> {
    this.net.close();
    await rm(this.path, { force: true });
  }
}
