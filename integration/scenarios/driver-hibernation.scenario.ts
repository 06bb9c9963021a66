// SPDX-License-Identifier: Apache-2.0
// The memory that comes back does not know what was written after it had been saved: no tracker goes on as if nothing had been.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { info, insmod, ioctl, loadDriver, mountExt4, states } from './driver.js';

const names = ['snapshot', 'incremental', 'dormant', 'unverified'] as const;

describe('a machine that hibernates', () => {
  const vm = useVm({
    name: 'hibernation',
    cpus: 1,
    disks: [...names.map((name) => ({ name, sizeMib: 32 })), { name: 'memory', sizeMib: 1024 }],
  });

  const mount = (name: string) => vm().sh(`mount ${vm().disk(name)} /${name}`);
  const stateAndError = async (minor: number) => {
    const { state, error } = await info(vm(), minor);
    return [state, error];
  };

  before(async () => {
    await loadDriver(vm());
    for (const [minor, name] of [...names.entries()].reverse()) {
      const disk = vm().disk(name);
      await mountExt4(vm(), disk, `/${name}`);
      await ioctl(vm(), 'setup', disk, `/${name}/cow`, minor, 4);
      if (name === 'unverified') {
        await vm().sh(`umount /${name} && rmmod elastio-snap && ${insmod}`);
        await ioctl(vm(), 'reload-snap', disk, '/cow', minor);
      }
      if (name === 'dormant') await vm().sh(`umount /${name}`);
      if (name === 'incremental') await ioctl(vm(), 'inc', minor);
    }
    // Saved; and brought back at once by the same kernel, if that can open the disk again while it is swap. Memory that was brought
    // back knows nothing of what was logged after it had been saved.
    const disk = vm().disk('memory');
    await vm().sh(
      `mkswap ${disk} && swapon ${disk} && echo test_resume > /sys/power/disk; echo disk > /sys/power/state; dmesg | grep 'Disabling non-boot CPUs' && ! dmesg | grep 'creating image' && dmesg | grep 'hibernation exit'`,
    );
  });

  for (const [minor, name] of (['snapshot', 'incremental'] as const).entries())
    it(`has ended its trackers in ${name} mode, and their filesystems can be snapshotted anew`, async () => {
      assert.deepEqual(await stateAndError(minor), [states[name], -116]);
      await vm().sh(`! test -e /${name}/cow && echo changed > /${name}/file && sync`);
      await ioctl(vm(), 'destroy', minor);
      await ioctl(vm(), 'setup', vm().disk(name), `/${name}/cow`, minor, 4);
      assert.deepEqual(await stateAndError(minor), [states.snapshot, 0]);
      await ioctl(vm(), 'destroy', minor);
      await vm().sh(`umount /${name} && e2fsck -fn ${vm().disk(name)}`);
    });

  it('does not take up a tracker again that was unverified', async () => {
    assert.deepEqual(await stateAndError(3), [states.unverifiedSnapshot, 0]);
    // Not even when it is announced once more.
    await ioctl(vm(), 'destroy', 3);
    await ioctl(vm(), 'reload-snap', vm().disk('unverified'), '/cow', 3);
    await mount('unverified');
    assert.deepEqual(await stateAndError(3), [states.unverifiedSnapshot, -116]);
    await ioctl(vm(), 'destroy', 3);
    await vm().sh('umount /unverified');
  });

  it('does not take up a dormant tracker again, nor its COW file later', async () => {
    assert.deepEqual(await stateAndError(2), [states.dormantSnapshot, 0]);
    await mount('dormant');
    assert.deepEqual(await stateAndError(2), [states.dormantSnapshot, -116]);
    await vm().sh(`umount /dormant && rmmod elastio-snap && ${insmod}`);
    await ioctl(vm(), 'reload-snap', vm().disk('dormant'), '/cow', 2);
    await mount('dormant');
    assert.deepEqual(await stateAndError(2), [states.unverifiedSnapshot, -22]);
    await vm().sh("umount /dormant && dmesg | grep 'was in use when the machine stopped'");
    await ioctl(vm(), 'destroy', 2);
  });
});

describe('a machine with a tracked device that does not answer', () => {
  const vm = useVm({ name: 'no-hibernation', cpus: 1, disks: [{ name: 'origin', sizeMib: 32 }] });

  it('does not hibernate, and says why', async () => {
    const slow = '/dev/mapper/slow';
    await loadDriver(vm());
    await vm().sh(`dmsetup create slow --table "0 65536 linear ${vm().disk('origin')} 0"`);
    await mountExt4(vm(), slow, '/t');
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=4 conv=fsync status=none');
    await ioctl(vm(), 'setup', slow, '/t/cow', 0, 8);
    const refused = await vm().sh(
      `dmsetup suspend --nolockfs --noflush slow
       dd if=/dev/zero of=/t/data bs=4k count=1 oflag=direct conv=notrunc status=none & sleep 1
       echo disk 2>&1 > /sys/power/state; dmsetup resume slow; wait; dmesg | grep 'cannot hibernate'`,
    );
    assert.match(refused, /a tracked device does not answer/);
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [3, -116]);
    await ioctl(vm(), 'destroy', 0);
    await ioctl(vm(), 'setup', slow, '/t/cow', 0, 8);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && e2fsck -fn ${slow} && dmsetup remove slow`);
  });
});
