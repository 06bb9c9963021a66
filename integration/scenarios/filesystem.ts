// SPDX-License-Identifier: Apache-2.0
// What the scenarios of single filesystems share: everything that is done with one that is tracked, and with one that is not.
import assert from 'node:assert/strict';
import type { Vm } from '../harness/vm.js';
import {
  changedBlocks,
  checkImage,
  copyImage,
  info,
  ioctl,
  loadDriver,
  mkfs,
  states,
  tests,
  tryIoctl,
} from './driver.js';

const image = '/dev/elastio-snap0';
const cowMib = 12;

/** The disks of such a scenario. */
export const disks = [
  { name: 'origin', sizeMib: 64 },
  { name: 'origin4096', sizeMib: 64, blockSize: 4096 },
  { name: 'copy', sizeMib: 64 },
  { name: 'second', sizeMib: 128 },
  { name: 'third', sizeMib: 16 },
] as const;

/** A form of filesystem that is tracked. In its commands SECOND and THIRD stand for disks. */
export interface Form {
  name: string;
  type: 'ext2' | 'ext3' | 'ext4' | 'xfs';
  mkfs: string;
  mount?: string;
  /** What mounting the image needs besides `ro`. */
  image?: string;
  fsck?: string;
  sectorBytes?: 4096;
  /** Commands in the new filesystem, and more of them with each writing. */
  prepare?: string;
  also?: string;
  /** Does it tell afterwards that it was mounted where nobody saw it? */
  tellsMounts?: false;
}

/** Something that is not tracked. ORIGIN and SECOND are disks. */
export interface Refusal {
  name: string;
  /** Makes the filesystem and mounts it at /t. */
  make: string;
  cow: string;
  reason: string;
}

/** In the current directory one that is encrypted as fscrypt does it (policy version 1), with a file. */
export const encrypt = `mkdir secret && echo phrase | e4crypt add_key -k @us -S 0x1234567890abcdef secret &&
  test -n "$(e4crypt get_policy secret)" && head -c 1M /dev/urandom > secret/file`;

/** Discards all that is free, which must be something. */
export const trim = 'fstrim -v . | grep " [(][1-9][0-9]* bytes[)] trimmed"';

function withDisks(vm: Vm, text: string): string {
  return text
    .replaceAll('ORIGIN', vm.disk('origin'))
    .replaceAll('SECOND', vm.disk('second'))
    .replaceAll('THIRD', vm.disk('third'));
}

async function checkState(vm: Vm, state: number, error = 0): Promise<void> {
  const found = await info(vm, 0);
  assert.deepEqual([found.state, found.error], [state, error]);
}

/** A form of filesystem on its disk. */
class Filesystem {
  readonly origin: string;
  readonly mkfs: string;
  readonly mount: string;
  readonly fsck: string;
  #writings = 0;

  constructor(
    private readonly vm: Vm,
    private readonly form: Form,
  ) {
    const { type } = form;
    this.origin = vm.disk(form.sectorBytes === 4096 ? 'origin4096' : 'origin');
    this.mkfs = withDisks(vm, mkfs(type, this.origin, form.mkfs));
    this.mount = withDisks(vm, `mount -t ${type} -o ${form.mount ?? 'rw'} ${this.origin} /t`);
    const check = type === 'xfs' ? 'xfs_repair -n' : 'e2fsck -fn';
    this.fsck = withDisks(vm, `${check} ${form.fsck ?? ''} ${this.origin}`);
  }

  /** Makes it, with files whose sums are in /tmp/sums. */
  async make(): Promise<void> {
    await this.vm.sh(`set -e; ${this.mkfs}; ${this.mount}; cd /t
      cp -r /etc/lvm kept; head -c 4M /dev/urandom > data; head -c 9999 data > cut
      for n in $(seq 9); do head -c 200K /dev/urandom > gone$n; done
      ${this.form.prepare ?? 'true'}
      find . -type f | sort | xargs sha256sum > /tmp/sums; sync`);
  }

  /** Overwrites through the page cache and past it, cuts, deletes and makes files. */
  async write(): Promise<void> {
    const n = String((this.#writings += 1));
    await this.vm.sh(`set -e; cd /t
      dd if=/dev/urandom of=data bs=64k seek=$((RANDOM % 30)) count=10 conv=notrunc status=none
      dd if=/dev/urandom of=data bs=4k seek=$((700 + RANDOM % 300)) count=30 oflag=direct conv=notrunc status=none
      rm gone${n}; mkdir new${n}; cp -r /etc/udev /etc/ssl new${n}; truncate -s $((9999 - ${n} * 1111)) cut
      ${this.form.also ?? 'true'}
      sync`);
  }

  /** The files in the image are what they were. */
  async checkImageFiles(): Promise<void> {
    const options = withDisks(this.vm, `ro,${this.form.image ?? 'rw'}`.replace(/,rw$/, ''));
    await this.vm.sh(`set -e; mount -t ${this.form.type} -o ${options} ${image} /i
      cd /i; sha256sum --quiet -c /tmp/sums; cd /; umount /i`);
  }
}

/** The tests of a form: what is written to it is in the image and the change map, whatever comes between. */
export function itTracks(form: Form, vm: () => Vm): void {
  const tells = form.tellsMounts ?? true;

  it(`${form.name}: image and changes are right, over unmounting and reloading too`, async () => {
    const fs = new Filesystem(vm(), form);
    const copy = vm().disk('copy');
    await fs.make();
    await ioctl(vm(), 'setup', fs.origin, '/t/cow1', 0, cowMib);
    await vm().sh(`${tests}/imagecheck extents /t/cow1 > /tmp/cow1`);
    await copyImage(vm(), copy);
    await fs.write();
    await vm().sh('umount /t');
    await checkState(vm(), states.dormantSnapshot);
    await vm().sh(fs.mount);
    await checkState(vm(), states.snapshot);
    await fs.write();
    await checkImage(vm(), copy);
    await fs.checkImageFiles();

    await ioctl(vm(), 'inc', 0);
    await fs.write();
    await vm().sh('umount /t');
    await checkState(vm(), states.dormantIncremental);
    if (tells) {
      await vm().sh('rmmod elastio-snap');
      await loadDriver(vm());
      await ioctl(vm(), 'reload-inc', fs.origin, '/cow1', 0);
    }
    await vm().sh(fs.mount);
    await checkState(vm(), states.incremental);
    await fs.write();
    await ioctl(vm(), 'snap', '/t/cow2', 0, cowMib);
    await vm().sh(`${tests}/imagecheck extents /t/cow2 > /tmp/cow2`);
    await vm().sh(`${tests}/imagecheck changed ${copy} ${image} /t/cow1 /tmp/cow1 /tmp/cow2`);
    const size = await vm().sh(`blockdev --getsize64 ${fs.origin}`);
    const index = await vm().sh(`${tests}/cowcheck /t/cow1 ${size}`);
    const { extents } = JSON.parse(index) as { extents: [number, number][] };
    assert.deepEqual(await changedBlocks(vm(), 1), extents);

    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`! test -e /t/cow2 && umount /t && ${fs.fsck}`);
  });

  it(`${form.name}: a mount that nobody saw ends its tracking`, async () => {
    const fs = new Filesystem(vm(), form);
    await vm().sh(`${fs.mkfs} && ${fs.mount}`);
    await ioctl(vm(), 'setup', fs.origin, '/t/cow', 0, cowMib);
    await vm().sh(`umount /t && rmmod elastio-snap && ${fs.mount} && touch /t/unseen && umount /t`);
    await loadDriver(vm());
    await ioctl(vm(), 'reload-snap', fs.origin, '/cow', 0);
    await vm().sh(fs.mount);
    await checkState(vm(), states.unverifiedSnapshot, tells ? -116 : -95);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`test -e /t/cow && umount /t && ${fs.fsck}`);
  });
}

/** The test of a refusal: the kernel's log has the reason, and nothing is left. */
export function itRefuses({ name, make, cow, reason }: Refusal, vm: () => Vm): void {
  it(`${name}: refused with the reason, and nothing is left`, async () => {
    await vm().sh(withDisks(vm(), make));
    const origin = (await vm().sh('findmnt -no SOURCE /t')).trim();
    const traces =
      'find /t | sort; ls /sys/block; grep elastio /sys/kernel/tracing/enabled_functions';
    const before = await vm().run(traces);
    assert.equal(await tryIoctl(vm(), 'setup', origin, cow, 0, 4), 'EOPNOTSUPP');
    await vm().sh(`dmesg | grep elastio-snap: | tail -1 | grep -F '${reason}'`);
    assert.equal((await vm().run(traces)).stdout, before.stdout);
    assert.doesNotMatch(before.stdout, /elastio/);
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
    await vm().sh('umount /t');
  });
}

/** What each test begins with and leaves. */
export function useDriver(vm: () => Vm): void {
  before(async () => {
    await loadDriver(vm());
    await vm().sh('mkdir -p /t /i');
  });
  afterEach(async () => {
    await vm().run(
      `for d in /i /t; do while umount $d 2> /dev/null; do :; done; done; ${tests}/ioctl-tool destroy 0`,
    );
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
  });
}
