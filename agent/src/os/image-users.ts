// SPDX-License-Identifier: Apache-2.0
// Who has an image in use. It is asked for the message of a refusal: what cannot be found out is left out.
import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { addAbortSignal } from 'node:stream';
import { text } from 'node:stream/consumers';
import { holdersOf, loopsOn } from './block-devices.js';
import { blockDeviceNumber, parseMountInfo } from './mounts.js';
import { runCommand } from './run-command.js';

/**
 * `elio-rescue users` answers here (elio-users.socket): it may look at the files of all processes (CAP_SYS_PTRACE), which the
 * installed agent may not.
 */
const SOCKET = '/run/elio-users.sock';
const PATIENCE_MS = 5000;

/** In words: mounts in all mount namespaces, processes, devices on top of it. The agent's own streams are not among them. */
export async function imageUsers(path: string, minor: number): Promise<string[]> {
  const found = await Promise.all([mountsOf(path), processesOf(minor), devicesOn(path)]);
  return found.flat();
}

/** The name of a process. */
export async function commandOf(pid: string): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim();
}

/** Mounts of a device in all mount namespaces, in words. */
export async function mountsOf(path: string): Promise<string[]> {
  const device = await blockDeviceNumber(path);
  // A namespace begins as a copy of another, so what the agent sees itself is told once, and first.
  const told = new Set<string>();
  const users: string[] = [];
  const others = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  for (const pid of ['self', ...others]) {
    const mounts = parseMountInfo(await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => ''));
    for (const { mountPoint } of mounts.filter((m) => m.device === device)) {
      if (told.has(mountPoint)) continue;
      told.add(mountPoint);
      const where = pid === 'self' ? '' : ` for process ${pid} (${await commandOf(pid)})`;
      users.push(`mounted on ${mountPoint}${where}`);
    }
  }
  return users;
}

async function processesOf(minor: number): Promise<string[]> {
  const lines = (await openImages()).split('\n').map((line) => line.split(' '));
  return lines
    .filter(([image, pid]) => image === String(minor) && pid !== String(process.pid))
    .map(([, pid = '', ...command]) => `open in process ${pid} (${command.join(' ')})`);
}

/** What `elio-rescue users` prints: by its socket, or, where nobody listens there, with what the agent itself may see. */
async function openImages(): Promise<string> {
  try {
    return await text(addAbortSignal(AbortSignal.timeout(PATIENCE_MS), connect(SOCKET)));
  } catch {
    return (await runCommand(['elio-rescue', 'users'], {}, PATIENCE_MS)).output;
  }
}

async function devicesOn(path: string): Promise<string[]> {
  const users = [...(await holdersOf(path)), ...(await loopsOn(path))];
  return users.map((user) => `part of ${user}`);
}
