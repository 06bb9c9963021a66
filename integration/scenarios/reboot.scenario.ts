// SPDX-License-Identifier: Apache-2.0
// Tracking goes on over reboots of a Debian with systemd and an initramfs of its own: of root, and of /var on a partition of another
// disk. Nothing is done by hand: the agent remembers, elio-rescue announces.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { rounds } from '../harness/length.js';
import { guestPrograms } from '../harness/payload.js';
import { useVm } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import { states } from './driver.js';

interface Tracked {
  minor: number;
  device: string;
  /** A device of the same size, which holds the image of the snapshot before. */
  copy: string;
  directory: string;
}

const root: Tracked = {
  minor: 0,
  device: '/dev/disk/by-id/virtio-elio-system',
  copy: '/dev/disk/by-id/virtio-copy-root',
  directory: '/',
};
const data: Tracked = {
  minor: 1,
  device: '/dev/disk/by-id/virtio-var-part1',
  copy: '/dev/disk/by-id/virtio-copy-var-part1',
  directory: '/var/',
};
const copyOfRoot = { name: 'copy-root', sizeMib: 1024 };

const imagecheck = '/root/imagecheck';
const cowMib = 64;
/** Reading a whole device takes an emulated guest its time. */
const slow = { timeoutMs: 600_000 };

async function putTools(vm: Vm): Promise<void> {
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

async function setUp(vm: Vm, tracked: Tracked): Promise<void> {
  const cow = cowFile(tracked, 0);
  await vm.sh(
    `elioctl setup-snapshot -f ${cowMib} ${tracked.device} ${cow} ${tracked.minor} && ${imagecheck} extents ${cow} > ${listOf(tracked, 0)}`,
  );
  await finish(vm, tracked);
}

/** Takes the next snapshot: every block that differs from the one before must be among the changes. */
async function backUp(vm: Vm, tracked: Tracked, number: number): Promise<void> {
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
async function write(vm: Vm, { directory }: Tracked, seed: number): Promise<void> {
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
async function stateOf(vm: Vm, { minor }: Tracked): Promise<Answer | undefined> {
  const { status, stdout, stderr } = await vm.run(`elio-rescue info ${minor}`);
  if (status === 4) return undefined;
  assert.equal(status, 0, stderr);
  const { state, error } = JSON.parse(stdout) as Answer;
  return error === undefined ? { state } : { state, error };
}

/** Units that wait for each other in a circle: systemd leaves one of them out, and says so. */
async function assertNoCycle(vm: Vm): Promise<void> {
  assert.equal(await vm.sh("journalctl -b -o cat | grep 'ordering cycle' || true"), '');
}

async function assertTracked(vm: Vm, all: readonly Tracked[]): Promise<void> {
  for (const tracked of all)
    assert.deepEqual(
      await stateOf(vm, tracked),
      { state: states.incremental },
      await vm.sh('dmesg | grep -i -e elastio -e elio; journalctl -b -o cat -u elio-reload'),
    );
}

/** What the agent has said since the boot. */
function log(vm: Vm): Promise<string> {
  return vm.sh('journalctl -b -o cat -u eliod');
}

describe('tracking over reboots', function () {
  this.timeout(60 * 60_000);
  /** Each has two boots before it. */
  const backups = rounds(1, 5);
  const all = [root, data];
  const vm = useVm({
    name: 'reboot',
    system: 'initramfs-tools',
    disks: [{ name: 'var', sizeMib: 384 }, { name: 'copy-var', sizeMib: 384 }, copyOfRoot],
  });

  before(async () => {
    await putTools(vm());
    await vm().sh(
      [
        'set -e',
        'for disk in var copy-var; do echo start=2048 | sfdisk -q --label gpt /dev/disk/by-id/virtio-$disk; done',
        'udevadm settle',
        `mkfs.xfs -qf ${data.device} && mount ${data.device} /mnt && cp -a /var/. /mnt && umount /mnt`,
        `echo "PARTUUID=$(blkid -s PARTUUID -o value ${data.device}) /var xfs defaults 0 2" >> /etc/fstab`,
      ].join('\n'),
    );
    await vm().reboot({ orderly: true });
    assert.equal(await vm().sh('findmnt -n -o FSTYPE /var'), 'xfs\n');
    await assertNoCycle(vm());
  });

  it(`misses no change over ${2 * backups} boots, whatever the disks are called`, async () => {
    for (const tracked of all) await setUp(vm(), tracked);
    const readNames = (): Promise<string> => vm().sh(`readlink -f ${root.device} ${data.device}`);
    const names = new Set([await readNames()]);
    for (let number = 1; number <= backups; number += 1) {
      for (const swapDisks of [true, false]) {
        const seed = 2 * number + (swapDisks ? 0 : 1);
        for (const tracked of all) await write(vm(), tracked, seed);
        await vm().reboot({ orderly: true, swapDisks });
        names.add(await readNames());
        await assertTracked(vm(), all);
      }
      for (const tracked of all) await backUp(vm(), tracked, number);
    }
    assert.equal(names.size, 2);
    const said = await log(vm());
    assert.match(said, /is still tracked/);
    assert.doesNotMatch(said, /is a full/);
  });

  it('ends with a power failure, and the agent says so', async () => {
    for (const tracked of all) await write(vm(), tracked, 1);
    await vm().sh('sync');
    await vm().reboot({ powerCut: true });
    assert.equal((await stateOf(vm(), data))?.error, -22);
    // What the initramfs reads is older than the journal's last transaction: nobody, or a COW file of before, may be named there.
    assert.notDeepEqual(await stateOf(vm(), root), { state: states.incremental });
    assert.equal((await log(vm())).match(/the next backup of \S+ is a full/g)?.length, 2);
    assert.equal(await vm().sh('cat /etc/elio/reload'), 'elio-reload 1\n');
  });
});

describe('tracking over reboots with an initramfs by dracut', function () {
  this.timeout(60 * 60_000);
  const vm = useVm({ name: 'reboot-dracut', system: 'dracut', disks: [copyOfRoot] });

  it('misses no change of root', async () => {
    await putTools(vm());
    await setUp(vm(), root);
    await write(vm(), root, 1);
    await vm().reboot({ orderly: true, swapDisks: true });
    await assertTracked(vm(), [root]);
    await write(vm(), root, 2);
    await backUp(vm(), root, 1);
  });

  // A filesystem that was not unmounted, with a file that was deleted while it was open.
  for (const type of ['ext4', 'xfs']) {
    it(`looks into an ${type} that is to be recovered without changing a byte`, async () => {
      await vm().sh(
        [
          'set -e; cd /root; rm -f fs dirty; truncate -s 320M fs',
          `mkfs.${type} -q fs`,
          'mount -o loop fs /mnt && mkdir -p /mnt/etc/elio && echo damaged > /mnt/etc/elio/reload && umount /mnt',
          'mount -o loop fs /mnt && exec 3> /mnt/gone && rm /mnt/gone && cat /usr/bin/node >&3 && sync -f /mnt',
          'cp --sparse=always fs dirty && exec 3>&- && umount /mnt && cp --sparse=always dirty fs',
        ].join('\n'),
        slow,
      );
      const { status, stdout, stderr } = await vm().run(
        'loop=$(losetup -f --show /root/dirty) && elio-rescue reload --root $loop; status=$?; blockdev --getro $loop; losetup -d $loop; exit $status',
      );
      assert.match(stderr, /^elio-rescue: \/etc\/elio\/reload, line 1: /);
      assert.deepEqual([status, stdout], [1, '0\n']);
      await vm().sh('cmp /root/fs /root/dirty && rm /root/fs /root/dirty', slow);
    });
  }
});
