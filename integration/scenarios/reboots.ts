// SPDX-License-Identifier: Apache-2.0
// What the scenarios with reboots share: devices that stay tracked, and the comparison of every image with the one before.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { guestPrograms } from '../harness/payload.js';
import type { Vm } from '../harness/vm.js';
import { states } from './driver.js';

export interface Tracked {
  minor: number;
  device: string;
  /** A device of the same size, which holds the image of the snapshot before. */
  copy: string;
  directory: string;
}

export const root: Tracked = {
  minor: 0,
  device: '/dev/disk/by-id/virtio-elio-system',
  copy: '/dev/disk/by-id/virtio-copy-root',
  directory: '/',
};
export const data: Tracked = {
  minor: 1,
  device: '/dev/disk/by-id/virtio-var-part1',
  copy: '/dev/disk/by-id/virtio-copy-var-part1',
  directory: '/var/',
};
export const copyOfRoot = { name: 'copy-root', sizeMib: 1024 };

const imagecheck = '/root/imagecheck';
const cowMib = 64;
/** Reading a whole device takes an emulated guest its time. */
export const slow = { timeoutMs: 600_000 };

export async function putTools(vm: Vm): Promise<void> {
  await vm.put(join(await guestPrograms(), 'imagecheck'), imagecheck);
}

function cowFile(tracked: Tracked, number: number): string {
  return `${tracked.directory}cow-${String(number)}`;
}

/** Where the blocks of a COW file are. */
function listOf(tracked: Tracked, number: number): string {
  return `/root/list-${String(tracked.minor)}-${String(number)}`;
}

function imageOf({ minor }: Tracked): string {
  return `/dev/elastio-snap${String(minor)}`;
}

/** Keeps the image for the next comparison, and goes on to record changes. */
async function finish(vm: Vm, tracked: Tracked): Promise<void> {
  await vm.sh(
    `dd if=${imageOf(tracked)} of=${tracked.copy} bs=1M iflag=direct oflag=direct status=none && elioctl transition-to-incremental ${tracked.minor}`,
    slow,
  );
}

export async function setUp(vm: Vm, tracked: Tracked): Promise<void> {
  const cow = cowFile(tracked, 0);
  await vm.sh(
    `elioctl setup-snapshot -f ${cowMib} ${tracked.device} ${cow} ${tracked.minor} && ${imagecheck} extents ${cow} > ${listOf(tracked, 0)}`,
  );
  await finish(vm, tracked);
}

/** Takes the next snapshot: every block that differs from the one before must be among the changes. */
export async function backUp(vm: Vm, tracked: Tracked, number: number): Promise<void> {
  const [old, next] = [cowFile(tracked, number - 1), cowFile(tracked, number)];
  const lists = `${listOf(tracked, number - 1)} ${listOf(tracked, number)}`;
  await vm.sh(
    [
      `elioctl transition-to-snapshot -f ${cowMib} ${next} ${tracked.minor}`,
      `${imagecheck} extents ${next} > ${listOf(tracked, number)}`,
      `${imagecheck} changed ${tracked.copy} ${imageOf(tracked)} ${old} ${lists}`,
      `rm ${old}`,
    ].join(' && '),
    slow,
  );
  await finish(vm, tracked);
}

/** Files come, change and go, and some are not on the disk yet when the machine goes down. */
export async function write(vm: Vm, { directory }: Tracked, seed: number): Promise<void> {
  await vm.sh(
    [
      `mkdir -p ${directory}work && cd ${directory}work`,
      `dd if=/dev/urandom of=file-${seed % 3} bs=4k count=${100 + 37 * seed} status=none`,
      `dd if=/dev/urandom of=file-0 bs=4k seek=${11 * seed} count=9 conv=notrunc status=none`,
      `cp -r /etc tree-${seed} && rm -rf tree-${seed - 1} && sync`,
      `dd if=/dev/urandom of=last bs=4k count=${5 * seed} status=none`,
    ].join(' && '),
  );
}

interface Answer {
  state: number;
  error?: number;
}

/** What elio-rescue tells of a tracker; undefined when there is none. */
export async function stateOf(vm: Vm, { minor }: Tracked): Promise<Answer | undefined> {
  const { status, stdout, stderr } = await vm.run(`elio-rescue info ${minor}`);
  if (status === 4) return undefined;
  assert.equal(status, 0, stderr);
  const { state, error } = JSON.parse(stdout) as Answer;
  return error === undefined ? { state } : { state, error };
}

export async function assertTracked(vm: Vm, all: readonly Tracked[]): Promise<void> {
  for (const tracked of all)
    assert.deepEqual(
      await stateOf(vm, tracked),
      { state: states.incremental },
      await vm.sh('dmesg | grep -i -e elastio -e elio; journalctl -b -o cat -u elio-reload'),
    );
}
