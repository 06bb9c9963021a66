// SPDX-License-Identifier: Apache-2.0
// Tracking goes on over reboots of a Debian with systemd and an initramfs of its own: of root, and of /var on a partition of another
// disk. Nothing is done by hand: the agent remembers, elio-rescue announces.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import { states } from './driver.js';
import {
  assertTracked,
  backUp,
  copyOfRoot,
  data,
  putTools,
  root,
  setUp,
  slow,
  stateOf,
  write,
} from './reboots.js';

/** Units that wait for each other in a circle: systemd leaves one of them out, and says so. */
async function assertNoCycle(vm: Vm): Promise<void> {
  assert.equal(await vm.sh("journalctl -b -o cat | grep 'ordering cycle' || true"), '');
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
    cpus: 1,
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
