// SPDX-License-Identifier: Apache-2.0
import { access, readdir, readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

const SYS_BLOCK = '/sys/class/block';
const SECTOR_SIZE = 512n;

async function attribute(name: string, file: string): Promise<string> {
  return (await readFile(join(SYS_BLOCK, name, file), 'utf8').catch(() => '')).trim();
}

function kernelName(path: string): string {
  return basename(path).replaceAll('/', '!');
}

function devicePath(name: string): string {
  return `/dev/${name.replaceAll('!', '/')}`;
}

/** Size in bytes; 0 when the device is gone. */
export async function deviceSizeBytes(path: string): Promise<bigint> {
  return BigInt((await attribute(kernelName(path), 'size')) || 0) * SECTOR_SIZE;
}

export interface BlockDeviceEntry {
  path: string;
  /** "major:minor". */
  device: string;
  sizeBytes: bigint;
  readOnly: boolean;
}

/** All block devices that have a size, in the order of their names. */
export async function listBlockDevices(): Promise<BlockDeviceEntry[]> {
  const names = (await readdir(SYS_BLOCK)).sort();
  const entries = await Promise.all(
    names.map(async (name) => ({
      path: devicePath(name),
      device: await attribute(name, 'dev'),
      sizeBytes: BigInt((await attribute(name, 'size')) || 0) * SECTOR_SIZE,
      readOnly: (await attribute(name, 'ro')) === '1',
    })),
  );
  return entries.filter((e) => e.sizeBytes > 0n);
}

/** What a dm, md or loop device, or the one that this is a partition of, is made of: devices, or a file. */
export async function lowerDevices(path: string): Promise<string[]> {
  const directory = await realpath(join(SYS_BLOCK, kernelName(path)));
  const isPartition = await access(join(directory, 'partition')).then(
    () => true,
    () => false,
  );
  const whole = isPartition ? dirname(directory) : directory;
  const slaves = await readdir(join(whole, 'slaves')).catch(() => []);
  const file = await readFile(join(whole, 'loop', 'backing_file'), 'utf8').catch(() => '');
  return [...slaves.sort().map(devicePath), ...(file === '' ? [] : [file.trimEnd()])];
}

/** Devices that sit on this one (dm, md): it is in use by them. */
export async function holdersOf(path: string): Promise<string[]> {
  const name = kernelName(await realpath(path));
  const holders = await readdir(join(SYS_BLOCK, name, 'holders')).catch(() => []);
  return holders.map(devicePath);
}

/** Links to block devices below /dev/disk/by-* and /dev/mapper, by the path that they lead to. */
export async function deviceAliases(): Promise<Map<string, string[]>> {
  const kinds = await readdir('/dev/disk').catch(() => []);
  const aliases = new Map<string, string[]>();
  for (const directory of [...kinds.map((kind) => `/dev/disk/${kind}`), '/dev/mapper']) {
    for (const name of (await readdir(directory).catch(() => [])).sort()) {
      const alias = join(directory, name);
      const path = await realpath(alias).catch(() => alias);
      if (path !== alias) aliases.set(path, [...(aliases.get(path) ?? []), alias]);
    }
  }
  return aliases;
}
