// SPDX-License-Identifier: Apache-2.0
// The unix socket: the kernel says who is at the other end.
import { chmod, chown, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Log } from '../log.js';
import { peerCredentials } from '../os/ioctl.js';
import type { Connections } from './connections.js';

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

  static async open(connections: Connections, path: string, log: Log): Promise<LocalListener> {
    const group = await groupId(GROUP);
    const accept = async (socket: Socket): Promise<void> => {
      const { pid, uid, gid } = peerCredentials(descriptorOf(socket));
      const name = `uid ${String(uid)}`;
      const peer = `pid ${String(pid)}, uid ${String(uid)}, gid ${String(gid)}`;
      if (uid === 0) {
        connections.admit(socket, { role: 'admin', name }, peer);
      } else if (group !== undefined && (await isMember(pid, gid, group))) {
        connections.admit(socket, { role: 'operator', name }, peer);
      } else {
        log.warn('connection refused: neither root nor in the group elio', { peer });
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
