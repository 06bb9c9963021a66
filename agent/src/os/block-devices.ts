// SPDX-License-Identifier: Apache-2.0
import { access, readdir, readFile, realpath, stat } from 'node:fs/promises';
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

/** Loop devices on this one. */
export async function loopsOn(path: string): Promise<string[]> {
  const loops = (await readdir(SYS_BLOCK)).filter((name) => name.startsWith('loop')).sort();
  const below = await Promise.all(
    loops.map((name) => lowerDevices(devicePath(name)).catch((): string[] => [])),
  );
  return loops.filter((_, i) => below[i]?.includes(path)).map(devicePath);
}

/** The partitions of a disk. */
export async function partitionsOf(path: string): Promise<string[]> {
  const directory = join(SYS_BLOCK, kernelName(path));
  const names = await readdir(directory).catch(() => []);
  const partitions: string[] = [];
  for (const name of names.sort()) {
    const isPartition = await access(join(directory, name, 'partition')).then(
      () => true,
      () => false,
    );
    if (isPartition) partitions.push(devicePath(name));
  }
  return partitions;
}

/** Where links to block devices are: /dev/disk/by-*, /dev/mapper, /dev/md, and a directory of each volume group. */
async function linkDirectories(): Promise<string[]> {
  const kinds = await readdir('/dev/disk').catch(() => []);
  const { dev } = await stat('/dev');
  const directories: string[] = [];
  for (const entry of await readdir('/dev', { withFileTypes: true })) {
    // The first two have a link for each number; other filesystems, such as /dev/shm, are not udev's.
    if (!entry.isDirectory() || ['block', 'char', 'disk'].includes(entry.name)) continue;
    const directory = join('/dev', entry.name);
    // A volume group can have gone meanwhile.
    const found = await stat(directory).catch(() => undefined);
    if (found?.dev === dev) directories.push(directory);
  }
  return [...kinds.map((kind) => `/dev/disk/${kind}`), ...directories.sort()];
}

/** Links to block devices below /dev, by the path that they lead to. */
export async function deviceAliases(): Promise<Map<string, string[]>> {
  const aliases = new Map<string, string[]>();
  for (const directory of await linkDirectories()) {
    for (const name of (await readdir(directory).catch(() => [])).sort()) {
      const alias = join(directory, name);
      const path = await realpath(alias).catch(() => alias);
      if (path !== alias) aliases.set(path, [...(aliases.get(path) ?? []), alias]);
    }
  }
  return aliases;
}

/** What a device is among the others. */
export interface DevicePlace {
  /** disk, partition, lvm, crypt, mpath, dm, md, loop, zram or rom. */
  kind: string;
  /** The disk of a partition; empty: it is none. */
  parent: string;
  /** Its zones have to be written in order. */
  zoned: boolean;
}

export async function placeOf(path: string): Promise<DevicePlace> {
  const name = kernelName(path);
  const directory = await realpath(join(SYS_BLOCK, name)).catch(() => '');
  const isPartition = (await attribute(name, 'partition')) !== '';
  const zones = await attribute(isPartition ? basename(dirname(directory)) : name, 'queue/zoned');
  const zoned = zones !== '' && zones !== 'none';
  if (isPartition)
    return { kind: 'partition', parent: devicePath(basename(dirname(directory))), zoned };
  const kind = /^[a-z]+/.exec(name)?.[0] ?? '';
  const known: Readonly<Record<string, string>> = {
    dm: dmKind(await attribute(name, 'dm/uuid')),
    loop: 'loop',
    md: 'md',
    sr: 'rom',
    zram: 'zram',
  };
  return { kind: known[kind] ?? 'disk', parent: '', zoned };
}

/** Who made a device-mapper device says so in its uuid. */
function dmKind(uuid: string): string {
  const kinds: Readonly<Record<string, string>> = { LVM: 'lvm', CRYPT: 'crypt', mpath: 'mpath' };
  return kinds[uuid.split('-', 1)[0] ?? ''] ?? 'dm';
}

/** Devices that are swapped to. */
export async function readSwaps(): Promise<string[]> {
  const lines = (await readFile('/proc/swaps', 'utf8').catch(() => '')).split('\n').slice(1);
  return lines.flatMap((line) => (line.startsWith('/dev/') ? (line.split(/\s/)[0] ?? []) : []));
}
