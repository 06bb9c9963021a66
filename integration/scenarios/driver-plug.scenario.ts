// SPDX-License-Identifier: Apache-2.0
// Writes that are held in the plug of the program that makes them, together with what others have in it.
import { strict as assert } from 'node:assert';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mountExt4 } from './driver.js';

const disks = ['a', 'b', 'c', 'd'].map((name) => ({ name, sizeMib: 64 }));

/**
 * Of the file's blocks the first half are saved; then all are written in random order, 16 in one call: those that pass to md at once
 * are in a plug with those that are held, and are there first. None is written twice in one run: where two writes to the same place are
 * under way at once, md's members may differ for ever.
 */
const writeInBatches =
  'dd if=/dev/urandom of=/t/file bs=1M count=8 oflag=direct conv=notrunc status=none && fio --name=w --filename=/t/file --rw=randwrite --bs=4k --size=16M --direct=1 --ioengine=libaio --iodepth=64 --iodepth_batch=16 --iodepth_batch_complete_min=1 --number_ios=3000 --minimal > /dev/null';

describe('plugs', () => {
  const vm = useVm({ name: 'plug', disks });

  before(async () => {
    await loadDriver(vm());
  });

  /*
   * md keeps writes in the plug, too, and its check waits until none is left there, while a read waits for the check: so nobody
   * may read with them in the plug.
   */
  it('are waited for by nobody, although md checks its members and has writes in the same plug', async () => {
    const members = disks.map(({ name }) => vm().disk(name)).join(' ');
    await vm().sh(
      `modprobe raid10 && sysctl -q dev.raid.speed_limit_min=200000 &&
       mdadm --create /dev/md0 --quiet --run --metadata=1.2 --level=10 --bitmap=internal --raid-devices=4 ${members} &&
       while grep -q resync /proc/mdstat; do sleep 0.2; done`,
    );
    await mountExt4(vm(), '/dev/md0', '/t');
    await vm().sh('dd if=/dev/urandom of=/t/file bs=1M count=16 status=none && sync');
    await vm().sh(
      `(touch /run/checks; while [ -e /run/checks ]; do echo check > /sys/block/md0/md/sync_action; sleep 0.2; done) > /dev/null 2>&1 &`,
    );
    await ioctl(vm(), 'setup', '/dev/md0', '/t/cow0', 0, 32);
    for (let round = 1; round <= rounds(4, 100, 2); round += 1) {
      const image = await vm().sh('sha256sum /dev/elastio-snap0');
      await vm().sh(writeInBatches, { timeoutMs: 120_000 });
      assert.equal(await vm().sh('sha256sum /dev/elastio-snap0'), image);
      const { error, nrChangedBlocks } = await info(vm(), 0);
      assert.equal(error, 0);
      assert.ok(nrChangedBlocks > 1000, String(nrChangedBlocks));
      await ioctl(vm(), 'inc', 0);
      await ioctl(vm(), 'snap', `/t/cow${String(round)}`, 0, 32);
      await vm().sh(`rm /t/cow${String(round - 1)}`);
    }
    await vm().sh('rm /run/checks && while grep -q check /proc/mdstat; do sleep 0.2; done');
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t && mdadm -q --stop /dev/md0');
  });
});
