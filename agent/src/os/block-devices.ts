// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile, realpath } from 'node:fs/promises';
import { basename, join } from 'node:path';

const SYS_BLOCK = '/sys/class/block';
const SECTOR_SIZE = 512n;

async function attribute(name: string, file: string): Promise<string> {
  return (await readFile(join(SYS_BLOCK, name, file), 'utf8').catch(() => '')).trim();
}

function kernelName(path: string): string {
  return basename(path).replaceAll('/', '!');
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
      path: `/dev/${name.replaceAll('!', '/')}`,
      device: await attribute(name, 'dev'),
      sizeBytes: BigInt((await attribute(name, 'size')) || 0) * SECTOR_SIZE,
      readOnly: (await attribute(name, 'ro')) === '1',
    })),
  );
  return entries.filter((e) => e.sizeBytes > 0n);
}

/** Devices that sit on this one (dm, md): it is in use by them. */
export async function holdersOf(path: string): Promise<string[]> {
  const name = kernelName(await realpath(path));
  const holders = await readdir(join(SYS_BLOCK, name, 'holders')).catch(() => []);
  return holders.map((holder) => `/dev/${holder.replaceAll('!', '/')}`);
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
