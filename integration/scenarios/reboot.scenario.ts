// SPDX-License-Identifier: Apache-2.0
// Tracking goes on over reboots of a Debian with systemd and an initramfs of its own: of root, and of /var on a partition of another
// disk. Nothing is done by hand: the agent remembers, elio-rescue announces.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { rounds } from '../harness/length.js';
import { guestPrograms } from '../harness/payload.js';
import { useVm } from '../harness/scenario.js';

interface Tracked {
  minor: number;
  device: string;
  /** Holds the image of the snapshot before. */
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
const all = [root, data];

/** Each has two boots before it. */
const backups = rounds(2, 5);
const cowMib = 64;

describe('tracking over reboots', function () {
  this.timeout(60 * 60_000);
  const vm = useVm({
    name: 'reboot',
    system: true,
    disks: [
      { name: 'var', sizeMib: 384 },
      { name: 'copy-var', sizeMib: 384 },
      { name: 'copy-root', sizeMib: 1024 },
    ],
  });

  before(async () => {
    await vm().put(join(await guestPrograms(), 'imagecheck'), '/root/imagecheck');
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
  });

  const cowFile = (tracked: Tracked, number: number): string =>
    `${tracked.directory}cow-${String(number)}`;
  const listOf = (tracked: Tracked, number: number): string =>
    `/root/list-${String(tracked.minor)}-${String(number)}`;
  const imageOf = ({ minor }: Tracked): string => `/dev/elastio-snap${String(minor)}`;

  /** Keeps the image for the next comparison, and goes on to record changes. */
  async function finish(tracked: Tracked): Promise<void> {
    await vm().sh(
      `dd if=${imageOf(tracked)} of=${tracked.copy} bs=1M iflag=direct oflag=direct status=none && elioctl transition-to-incremental ${tracked.minor}`,
    );
  }

  async function setUp(): Promise<void> {
    for (const tracked of all) {
      await vm().sh(
        `elioctl setup-snapshot -f ${cowMib} ${tracked.device} ${cowFile(tracked, 0)} ${tracked.minor} && /root/imagecheck extents ${cowFile(tracked, 0)} > ${listOf(tracked, 0)}`,
      );
      await finish(tracked);
    }
  }

  /** Takes the next snapshot: every block that differs from the one before must be among the changes. */
  async function backUp(number: number): Promise<void> {
    for (const tracked of all) {
      const [old, next] = [cowFile(tracked, number - 1), cowFile(tracked, number)];
      const lists = `${listOf(tracked, number - 1)} ${listOf(tracked, number)}`;
      await vm().sh(
        [
          `elioctl transition-to-snapshot -f ${cowMib} ${next} ${tracked.minor}`,
          `/root/imagecheck extents ${next} > ${listOf(tracked, number)}`,
          `/root/imagecheck changed ${tracked.copy} ${imageOf(tracked)} ${old} ${lists}`,
          `rm ${old}`,
        ].join(' && '),
        { timeoutMs: 600_000 },
      );
      await finish(tracked);
    }
  }

  /** Files come, change and go on both filesystems, and some are written when the machine goes down. */
  async function write(seed: number): Promise<void> {
    for (const { directory } of all) {
      await vm().sh(
        [
          `mkdir -p ${directory}work && cd ${directory}work`,
          `dd if=/dev/urandom of=file-${seed % 3} bs=4k count=${100 + 37 * seed} status=none`,
          `dd if=/dev/urandom of=file-0 bs=4k seek=${11 * seed} count=9 conv=notrunc status=none`,
          `cp -r /etc tree-${seed} && rm -rf tree-${seed - 1} && sync`,
          `dd if=/dev/urandom of=last bs=4k count=${5 * seed} status=none`,
        ].join(' && '),
      );
    }
  }

  async function stateOf({ minor }: Tracked): Promise<{ state: number; error?: number }> {
    const { state, error } = JSON.parse(await vm().sh(`elio-rescue info ${minor}`)) as {
      state: number;
      error?: number;
    };
    return error === undefined ? { state } : { state, error };
  }

  it(`misses no change over ${2 * backups} boots, whatever the disks are called`, async () => {
    await setUp();
    const names = new Set<string>();
    for (let number = 1; number <= backups; number += 1) {
      for (const swapDisks of [true, false]) {
        await write(2 * number - (swapDisks ? 1 : 0));
        await vm().reboot({ orderly: true, swapDisks });
        names.add(await vm().sh(`readlink -f ${root.device} ${data.device}`));
        for (const tracked of all) assert.deepEqual(await stateOf(tracked), { state: 2 });
      }
      await write(2 * number);
      await backUp(number);
    }
    assert.equal(names.size, 2);
    const said = await vm().sh('journalctl -b -o cat -u eliod');
    assert.match(said, /is still tracked/);
    assert.doesNotMatch(said, /is a full/);
  });

  it('ends with a power failure, and the agent says so', async () => {
    await write(1);
    await vm().sh('sync');
    await vm().reboot({ powerCut: true });
    for (const tracked of all) {
      const { error } = await stateOf(tracked);
      assert.equal(error, -22);
      await vm().sh(`elioctl destroy ${tracked.minor}`);
    }
    const said = await vm().sh('journalctl -b -o cat -u eliod');
    assert.equal(
      said.match(/next backup of .* is a full: its COW file was not closed/g)?.length,
      2,
    );
    assert.equal(await vm().sh('cat /etc/elio/reload'), 'elio-reload 1\n');
    await vm().sh(`rm -f /cow-* /var/cow-*`);
  });
});
