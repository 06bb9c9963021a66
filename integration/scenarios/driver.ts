// SPDX-License-Identifier: Apache-2.0
// What the driver's scenarios share: the module, its ioctls (through integration/guest/ioctl-tool.c), filesystems to track.
import assert from 'node:assert/strict';
import { fault } from '../harness/payload.js';
import type { Vm } from '../harness/vm.js';

export const tests = '/opt/elio/tests';

/** What `ioctl-tool info` prints. */
export interface TrackerInfo {
  minor: number;
  flags: number;
  state: number;
  error: number;
  cacheSizeBytes: number;
  cowSizeBytes: number;
  seqId: number;
  uuid: string;
  cow: string;
  bdev: string;
  version: number;
  nrChangedBlocks: number;
  ignoreErrors: number;
}

/** The states of a tracker, as `TrackerInfo.state` has them. */
export const states = {
  dormantIncremental: 0,
  dormantSnapshot: 1,
  incremental: 2,
  snapshot: 3,
  unverifiedIncremental: 4,
  unverifiedSnapshot: 5,
} as const;

/** Is the guest's kernel older than major.minor? */
export async function kernelIsBefore(vm: Vm, major: number, minor: number): Promise<boolean> {
  const [isMajor = 0, isMinor = 0] = (await vm.sh('uname -r')).split('.').map(Number);
  return isMajor < major || (isMajor === major && isMinor < minor);
}

/** The command that loads the driver. */
export const insmod = `insmod /opt/elio/elastio-snap.ko${fault === undefined ? '' : ` fault=${fault}`}`;

export async function loadDriver(vm: Vm): Promise<void> {
  await vm.sh(insmod);
}

/** Makes one ioctl and resolves with 'ok', the number asked for, or the name of the errno. */
export async function tryIoctl(vm: Vm, ...words: readonly (string | number)[]): Promise<string> {
  const { stdout, stderr } = await vm.run(`${tests}/ioctl-tool ${words.join(' ')}`);
  assert.equal(stderr, '');
  return stdout.trim();
}

/** Waits for udev, which closes a connection without an answer now and then; then a second one has it. */
const settle = '{ udevadm settle 2> /dev/null || udevadm settle; }';

/** Makes one ioctl that has to succeed, and waits until udev has seen the image come or go. */
export async function ioctl(vm: Vm, ...words: readonly (string | number)[]): Promise<void> {
  const command = words.join(' ');
  assert.equal(await vm.sh(`${tests}/ioctl-tool ${command} && ${settle}`), 'ok\n', command);
}

export async function info(vm: Vm, minor: number): Promise<TrackerInfo> {
  return JSON.parse(await tryIoctl(vm, 'info', minor)) as TrackerInfo;
}

/**
 * The command that makes a filesystem which writes nothing on its own account, and which every kernel mounts. An XFS can
 * be smaller than the 300 MiB that mkfs.xfs demands, and has extent counters that 5.10 knows.
 */
export function mkfs(type: string, device: string, options = ''): string {
  const quiet =
    type === 'xfs'
      ? '-qf --unsupported -K -i nrext64=0'
      : '-q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard';
  return `wipefs -qa ${device} && mkfs.${type} ${quiet} ${options} ${device}`;
}

/** Makes an ext4 that writes nothing on its own account, and mounts it. */
export async function mountExt4(
  vm: Vm,
  device: string,
  directory: string,
  options = '',
): Promise<void> {
  await vm.sh(
    `${mkfs('ext4', device, options)} && mkdir -p ${directory} && mount ${device} ${directory}`,
  );
}

/** Makes a small XFS and mounts it. */
export async function mountXfs(vm: Vm, device: string, directory: string): Promise<void> {
  await vm.sh(`${mkfs('xfs', device)} && mkdir -p ${directory} && mount ${device} ${directory}`);
}

/** Destroys the tracker and unmounts; fails when that cannot be done or the filesystem is damaged. */
export async function destroyAndCheckExt4(vm: Vm, minor: number, device: string): Promise<void> {
  await ioctl(vm, 'destroy', minor);
  await vm.sh(`umount ${device} && e2fsck -fn ${device}`);
}

/**
 * The header of a COW file as it is on the device, wherever its filesystem is by then; looked up while it is mounted.
 */
export async function cowHeader(
  vm: Vm,
  device: string,
  cow: string,
): Promise<() => Promise<{ isClean: boolean }>> {
  const [sector = ''] = (await vm.sh(`sync; ${tests}/imagecheck extents ${cow}`)).split(' ');
  return async () => {
    const flags = await vm.sh(
      `dd if=${device} bs=512 skip=${sector} count=1 iflag=direct status=none | od -A n -t u4 -j 4 -N 4`,
    );
    return { isClean: (Number(flags) & 1) !== 0 };
  };
}

/** The changed blocks since a snapshot of minor 0, as the driver tells them, in extents. */
export async function changedBlocks(vm: Vm, seqId: number): Promise<[number, number][]> {
  const text = await tryIoctl(vm, 'changes', 0, seqId, 65536);
  return text.split('\n').map((line) => line.split(' ').map(Number) as [number, number]);
}

const image = '/dev/elastio-snap0';

/** Keeps the content of the image of minor 0 on a scratch disk of its size. */
export async function copyImage(vm: Vm, copy: string): Promise<void> {
  await vm.sh(`dd if=${image} of=${copy} bs=1M oflag=direct status=none`);
}

/** Fails unless the image of minor 0 is what `copyImage` has kept. */
export async function checkImage(vm: Vm, copy: string): Promise<void> {
  await vm.sh(`${tests}/imagecheck same ${image} ${copy}`);
}

/** Overwrites blocks of /t/data at a random place, and makes new files in /t. */
export async function writeFiles(vm: Vm): Promise<void> {
  await vm.sh(
    'dd if=/dev/urandom of=/t/data bs=4k seek=$((RANDOM % 1000)) count=40 conv=notrunc status=none; cp -r /etc/ssl /t/more$RANDOM',
  );
}
