// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile, readlink } from 'node:fs/promises';
import { blockDeviceNumber, readMounts } from './mounts.js';

/**
 * Who has an image device open or mounted, in words; the agent's own streams are not among them. Processes of others are seen
 * with CAP_SYS_PTRACE only.
 */
export async function imageUsers(path: string): Promise<string[]> {
  const device = await blockDeviceNumber(path);
  const mounts = (await readMounts()).filter((m) => m.device === device);
  const users = mounts.map((m) => `mounted on ${m.mountPoint}`);
  const pids = (await readdir('/proc')).filter(
    (name) => /^\d+$/.test(name) && name !== String(process.pid),
  );
  for (const pid of pids) {
    const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const fd of fds) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
      if (target !== path) continue;
      const command = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trim();
      users.push(`open in process ${pid} (${command})`);
      break;
    }
  }
  return users;
}
