// SPDX-License-Identifier: Apache-2.0
// A look at the files of a backup: it becomes a read-only block device of this machine, which is mounted read-only.
import { readdir, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CliError, EXIT } from '../errors.js';
import { imageName } from '../qemu/qcow2.js';
import { qemuFailure, qemuMessage, runTool, type ToolResult } from '../qemu/tools.js';
import { exists } from '../files.js';
import { atStep } from '../backup/steps.js';

const APPEAR_MS = 5000;
const POLL_MS = 50;

/** So that nothing is written: neither a journal's replay nor a mark that it was mounted. */
const OPTIONS: Readonly<Record<string, string>> = {
  ext3: 'ro,noload',
  ext4: 'ro,noload',
  xfs: 'ro,norecovery,nouuid',
  btrfs: 'ro,rescue=nologreplay',
};

function mountOptions(filesystem: string): string {
  return OPTIONS[filesystem] ?? 'ro';
}

/** Where the Ctrl-C of a terminal does not end it: what has begun is finished, and then undone. */
function runApart(program: string, args: readonly string[]): Promise<ToolResult> {
  return runTool('setsid', ['--wait', program, ...args]);
}

async function run(program: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await runApart(program, args);
  if (status !== 0) throw new CliError(`${program} failed: ${qemuMessage(stderr)}`);
  return stdout.trim();
}

/** What root would type; for those who are not. */
export function mountInstructions(image: string, mountPoint: string): string {
  return `modprobe nbd
qemu-nbd --read-only --format=qcow2 --connect=/dev/nbd0 ${image}
mount -o ${mountOptions('ext4')} /dev/nbd0 ${mountPoint}      (ext4)
mount -o ${mountOptions('xfs')} /dev/nbd0 ${mountPoint}      (XFS)
umount ${mountPoint}
qemu-nbd --disconnect /dev/nbd0`;
}

/** The NBD devices of this machine that nobody uses. */
async function freeDevices(): Promise<string[]> {
  if (!(await exists('/sys/block/nbd0'))) await run('modprobe', 'nbd');
  const names = (await readdir('/sys/block')).filter((name) => /^nbd\d+$/.test(name));
  const free: string[] = [];
  for (const name of names.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))) {
    if (!(await exists(`/sys/block/${name}/pid`))) free.push(`/dev/${name}`);
  }
  return free;
}

/** Connects an image to a free device, which another program may snatch away meanwhile. */
async function connect(image: string): Promise<string> {
  let message = 'all NBD devices are in use';
  for (const device of await freeDevices()) {
    const args = ['--read-only', `--connect=${device}`, imageName(image)];
    const { status, stderr } = await runApart('qemu-nbd', args);
    if (status === 0) {
      await untilReady(device);
      return device;
    }
    const failure = qemuFailure('qemu-nbd', image, stderr);
    if (!/busy/i.test(stderr)) throw failure;
    ({ message } = failure);
  }
  throw new CliError(`no NBD device can be had: ${message}`, EXIT.busy);
}

async function untilReady(device: string): Promise<void> {
  const path = `/sys/block/${basename(device)}/size`;
  for (let waitedMs = 0; waitedMs < APPEAR_MS; waitedMs += POLL_MS) {
    if (Number(await readFile(path, 'utf8')) > 0) return;
    await sleep(POLL_MS);
  }
  throw new CliError(`${device} did not become ready`);
}

async function disconnect(device: string): Promise<void> {
  await run('qemu-nbd', '--disconnect', device);
}

/** Mounts the volume of an image read-only; resolves with its device. Rejects with CliError, and then nothing is left. */
export async function mountImage(image: string, mountPoint: string): Promise<string> {
  const device = await connect(image);
  try {
    atStep('mount-connected');
    const filesystem = await run('blkid', '-p', '-s', 'TYPE', '-o', 'value', device);
    await run('mount', '-t', filesystem, '-o', mountOptions(filesystem), device, mountPoint);
    atStep('mount-mounted');
    return device;
  } catch (error) {
    await disconnect(device).catch(() => undefined);
    throw error;
  }
}

/** The NBD device that is mounted there; undefined: none. */
export async function mountedDevice(mountPoint: string): Promise<string | undefined> {
  const lines = (await readFile('/proc/self/mounts', 'utf8')).trim().split('\n').reverse();
  for (const line of lines) {
    const [device = '', where = ''] = line.split(' ');
    const path = where.replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(parseInt(octal, 8)),
    );
    if (path === mountPoint && /^\/dev\/nbd\d+$/.test(device)) return device;
  }
  return undefined;
}

/** Undoes mountImage(). Rejects with CliError when files are in use, or when no backup is mounted there. */
export async function unmountImage(mountPoint: string): Promise<void> {
  const device = await mountedDevice(mountPoint);
  if (device === undefined) {
    throw new CliError(`no backup is mounted on ${mountPoint}`, EXIT.notFound);
  }
  const { status, stderr } = await runApart('umount', [mountPoint]);
  if (status !== 0) {
    const busy = stderr.includes('busy');
    throw new CliError(
      `umount failed: ${qemuMessage(stderr)}${busy ? ' (lsof or fuser -m tells who uses it)' : ''}`,
      busy ? EXIT.busy : EXIT.failed,
    );
  }
  await disconnect(device);
}
