// SPDX-License-Identifier: Apache-2.0
// The local agent's socket: who may use it.
import { readFile, stat } from 'node:fs/promises';
import { note, ok, wrong, type Finding } from './finding.js';

const GROUP = 'elio';
const MODE = 0o660;

/** The group's number; undefined when there is no such group. */
export function groupId(groups: string): number | undefined {
  const line = groups.split('\n').find((text) => text.startsWith(`${GROUP}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}

export interface SocketFacts {
  isSocket: boolean;
  mode: number;
  gid: number;
}

/** What there is at the socket's path, undefined: nothing; and the number of the group that may use it. */
export function socketFindings(
  path: string,
  found: SocketFacts | undefined,
  group: number | undefined,
): Finding[] {
  const subject = 'socket';
  if (!found) {
    return [wrong(subject, `${path} is not there`, 'systemctl enable --now eliod')];
  }
  if (!found.isSocket) {
    return [wrong(subject, `${path} is no socket`, `delete it, then systemctl restart eliod`)];
  }
  if (group === undefined) {
    return [
      note(
        subject,
        `there is no group ${GROUP}: only root may use ${path}`,
        `groupadd --system ${GROUP} && systemctl restart eliod, and add who is to operate snapshots`,
      ),
    ];
  }
  if (found.gid !== group || found.mode !== MODE) {
    const mode = found.mode.toString(8).padStart(4, '0');
    return [
      note(
        subject,
        `${path} has group ${String(found.gid)} and mode ${mode}, not ${String(group)} (${GROUP}) and 0660`,
        'systemctl restart eliod',
      ),
    ];
  }
  return [ok(subject, `${path}, for root and the group ${GROUP}`)];
}

/** Looks at the socket of this host. */
export async function examineSocket(path: string): Promise<Finding[]> {
  const info = await stat(path).catch(() => undefined);
  const found = info && { isSocket: info.isSocket(), mode: info.mode & 0o777, gid: info.gid };
  const groups = await readFile('/etc/group', 'utf8').catch(() => '');
  return socketFindings(path, found, groupId(groups));
}
