// SPDX-License-Identifier: Apache-2.0
// What happens to a tracker whose disk is pulled out or detached, or whose filesystem gives up: in every state nothing hangs,
// nothing stays busy, and the tracker can be destroyed.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import {
  cowHeader,
  info,
  insmod,
  ioctl,
  kernelIsBefore,
  loadDriver,
  mountExt4,
  states,
  tests,
  tryIoctl,
} from './driver.js';

const kinds = [
  { bus: 'virtio-blk', remove: 'echo 1 > $(readlink -f /sys/block/DISK/device/..)/remove' },
  { bus: 'virtio-scsi', remove: 'echo 1 > /sys/block/DISK/device/delete' },
] as const;

for (const { bus, remove } of kinds) {
  describe(`a tracker of a ${bus} disk that is pulled out`, () => {
    const names = ['snapshot', 'loaded', 'incremental', 'dormant', 'unverified'] as const;
    const vm = useVm({
      name: `removal-${bus}`,
      leakSearch: true,
      cpus: 1,
      disks: names.map((name) => ({ name, sizeMib: name === 'loaded' ? 128 : 32, bus })),
    });

    before(() => loadDriver(vm()));

    /** Sets up minor 0 on a disk, and takes the disk away once `state` is reached. */
    async function pull(
      name: (typeof names)[number],
      reach: () => Promise<unknown>,
      cowMib = 4,
    ): Promise<void> {
      const disk = vm().disk(name);
      const kernelName = (await vm().sh(`basename $(readlink -f ${disk})`)).trim();
      await mountExt4(vm(), disk, '/t');
      await ioctl(vm(), 'setup', disk, '/t/cow', 0, cowMib);
      await vm().sh('echo changed > /t/file && sync');
      await reach();
      await vm().sh(`${remove.replace('DISK', kernelName)}; udevadm settle`);
      await vm().sh(`! test -e /sys/block/${kernelName}`);
    }

    it('fails in snapshot mode at the first block that it cannot save, and umount goes through', async () => {
      await pull('snapshot', () => Promise.resolve());
      await vm().run('dd if=/dev/zero of=/t/other bs=4k count=100 conv=fsync status=none');
      const read = await vm().run(
        'dd if=/dev/elastio-snap0 of=/dev/null bs=4k count=1 iflag=direct',
      );
      assert.match(read.stderr, /Input\/output error/);
      await vm().sh('umount /t');
      const { state, error } = await info(vm(), 0);
      assert.deepEqual([state, error], [states.snapshot, -5]);
      await ioctl(vm(), 'destroy', 0);
    });

    it('fails under load: every write ends, and nothing of it is held', async () => {
      await pull(
        'loaded',
        () =>
          vm().sh(
            `fallocate -l 48M /t/load && sync
             { fio --name=load --filename=/t/load --rw=randwrite --bs=4k --size=48M --direct=1 --ioengine=libaio --iodepth=16 > /tmp/load.log 2>&1; echo ended > /tmp/load.ended; } < /dev/null > /dev/null 2>&1 &
             until test "$(${tests}/ioctl-tool info 0 | sed 's/.*"nrChangedBlocks":\\([0-9]*\\).*/\\1/')" -gt 100; do sleep 0.1; done`,
          ),
        64,
      );
      await vm().sh(
        'for n in $(seq 600); do test -e /tmp/load.ended && break; sleep 0.1; done; grep -q "err= *[1-9]" /tmp/load.log && cat /tmp/load.ended',
      );
      await vm().sh('umount /t');
      const { state, error } = await info(vm(), 0);
      assert.equal(state, states.snapshot);
      // A SCSI disk may say that its medium has gone before a read fails.
      assert.ok([-5, -19].includes(error), String(error));
      await ioctl(vm(), 'destroy', 0);
    });

    it('fails in incremental mode when its COW file cannot be closed', async () => {
      await pull('incremental', () => ioctl(vm(), 'inc', 0));
      await vm().run('dd if=/dev/zero of=/t/other bs=4k count=100 conv=fsync status=none');
      assert.equal((await info(vm(), 0)).error, 0);
      await vm().sh('umount /t');
      const { state, error } = await info(vm(), 0);
      assert.deepEqual([state, error], [states.incremental, -5]);
      await ioctl(vm(), 'destroy', 0);
    });

    it('stays dormant or unverified, since nothing of it is missed before the disk is mounted', async () => {
      await pull('dormant', async () => {
        await vm().sh('umount /t');
      });
      const dormant = await info(vm(), 0);
      assert.deepEqual([dormant.state, dormant.error], [states.dormantSnapshot, 0]);
      await ioctl(vm(), 'destroy', 0);

      await pull('unverified', async () => {
        await vm().sh(`umount /t && rmmod elastio-snap && ${insmod}`);
        await ioctl(vm(), 'reload-snap', vm().disk('unverified'), '/cow', 0);
      });
      const unverified = await info(vm(), 0);
      assert.deepEqual([unverified.state, unverified.error], [states.unverifiedSnapshot, 0]);
      await ioctl(vm(), 'destroy', 0);
      assert.equal(await tryIoctl(vm(), 'free'), '0');
    });
  });
}

describe('a tracker of what can be detached', () => {
  const vm = useVm({
    name: 'detach',
    leakSearch: true,
    cpus: 1,
    disks: [
      { name: 'a', sizeMib: 64 },
      { name: 'b', sizeMib: 64 },
    ],
  });

  before(() => loadDriver(vm()));
  afterEach(async () => {
    await vm().run(`umount /t; ${tests}/ioctl-tool destroy 0; modprobe -r scsi_debug`);
  });

  /** Makes device busy with nothing once its tracker is dormant, and once it is unverified. */
  async function checkDetach(
    device: string,
    attach: string,
    detach: string,
    isGone: string,
  ): Promise<void> {
    await vm().sh(attach);
    await mountExt4(vm(), device, '/t');
    await ioctl(vm(), 'setup', device, '/t/cow', 0, 4);
    await vm().sh(`umount /t && udevadm settle && ${detach} && ${isGone}`);
    assert.equal((await info(vm(), 0)).state, states.dormantSnapshot);
    await ioctl(vm(), 'destroy', 0);

    await vm().sh(`${attach} && udevadm settle`);
    await ioctl(vm(), 'reload-inc', device, '/cow', 0);
    await vm().sh(`udevadm settle; ${detach} && ${isGone} && ${attach} && mount ${device} /t`);
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [states.unverifiedIncremental, -19]);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && udevadm settle && ${detach}`);
  }

  it('does not keep a loop device', async () => {
    await vm().sh('modprobe loop && truncate -s 32M /tmp/disk');
    await checkDetach(
      '/dev/loop0',
      'losetup /dev/loop0 /tmp/disk',
      'losetup -d /dev/loop0',
      '! losetup /dev/loop0 2> /dev/null',
    );
  });

  it('does not keep a logical volume', async () => {
    await vm().sh(
      `modprobe dm-mod && wipefs -qa ${vm().disk('a')} && vgcreate -qq vg ${vm().disk('a')} && lvcreate -qq -y -Zn -L 32M -n lv vg`,
    );
    await checkDetach(
      '/dev/vg/lv',
      'lvchange -ay vg/lv',
      'lvchange -an vg/lv',
      '! test -e /dev/vg/lv',
    );
    await vm().sh('vgremove -qq -f vg');
  });

  it('does not keep an md device', async () => {
    const disks = `${vm().disk('a')} ${vm().disk('b')}`;
    await vm().sh(
      `modprobe raid1; wipefs -qa ${disks}; mdadm --create /dev/md0 --run --assume-clean --metadata=1.2 --level=1 --raid-devices=2 ${disks} && mdadm --stop /dev/md0`,
    );
    await checkDetach(
      '/dev/md0',
      `mdadm --assemble /dev/md0 ${disks}`,
      'mdadm --stop /dev/md0',
      // It goes in the background.
      '{ until ! test -e /sys/block/md0/md/level; do sleep 0.1; test $((n += 1)) -lt 100 || exit 1; done; }',
    );
  });

  /** Disks whose medium can be exchanged: it is the same one for all of them. */
  async function removableDisks(count: 1 | 2): Promise<string[]> {
    const options = `dev_size_mb=32 removable=1 max_queue=32 add_host=${count}`;
    await vm().sh(`modprobe scsi_debug ${options} && udevadm settle`);
    const disks = await vm().sh(
      'grep -l scsi_debug /sys/block/sd*/device/model | cut -d / -f 4 | sed s,^,/dev/,',
    );
    return disks.trim().split('\n');
  }

  /** The disk says that its medium is another one. */
  async function exchange(disk: string): Promise<void> {
    await vm().sh(
      `echo 1 > /sys/bus/pseudo/drivers/scsi_debug/virtual_gb; blockdev --getsz ${disk} > /dev/null`,
    );
  }

  /** Before 5.15 a disk has no number by which another medium could be told. */
  const tellsMedia = async (): Promise<boolean> => !(await kernelIsBefore(vm(), 5, 15));

  /** Writes what no filesystem knows of. */
  async function writeLastSector(disk: string): Promise<void> {
    await vm().sh(
      `dd if=/dev/urandom of=${disk} bs=512 seek=65535 count=1 oflag=direct conv=notrunc status=none`,
    );
  }

  const readImage = 'dd if=/dev/elastio-snap0 of=/dev/null bs=1M count=1 iflag=direct status=none';

  for (const mode of ['snapshot', 'incremental', 'dormant'] as const) {
    it(`does not trust a disk that reports another medium: ${mode}`, async () => {
      const [disk = ''] = await removableDisks(1);
      await mountExt4(vm(), disk, '/t', '-b 4096');
      await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
      if (mode === 'incremental') await ioctl(vm(), 'inc', 0);
      const header = await cowHeader(vm(), disk, '/t/cow');
      if (mode === 'dormant') await vm().sh('umount /t');
      assert.equal((await header()).isClean, mode === 'dormant');
      await exchange(disk);
      assert.equal((await info(vm(), 0)).error, 0);
      if (mode === 'snapshot' && (await tellsMedia()))
        assert.match((await vm().run(readImage)).stderr, /Input\/output error/);
      await writeLastSector(disk);
      // Before 5.15 it is not taken up again instead.
      if (await tellsMedia()) assert.equal((await info(vm(), 0)).error, -19);
      assert.equal((await header()).isClean, false);
      await vm().sh(mode === 'dormant' ? `mount ${disk} /t` : `umount /t && mount ${disk} /t`);
      assert.equal((await info(vm(), 0)).error, -19);
      await ioctl(vm(), 'destroy', 0);
      await vm().sh(`umount /t && e2fsck -fn ${disk} && modprobe -r scsi_debug`);
    });
  }

  it('does not close its COW file on another medium', async () => {
    const [disk = ''] = await removableDisks(1);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
    const header = await cowHeader(vm(), disk, '/t/cow');
    await vm().sh('echo saved > /t/file; sync; mount -o remount,ro /t');
    await exchange(disk);
    // Another medium can be larger.
    const content = `head -c 32M ${disk} | sha256sum`;
    const before = await vm().sh(content);
    await vm().sh('umount /t');
    if (await tellsMedia()) {
      assert.equal((await info(vm(), 0)).error, -19);
      assert.equal((await header()).isClean, false);
      assert.equal(await vm().sh(content), before);
    }
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('modprobe -r scsi_debug');
  });

  it('does not delete its COW file on another medium', async () => {
    const [disk = ''] = await removableDisks(1);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
    await vm().sh('mount -o remount,noatime /t && sync');
    await exchange(disk);
    const content = `sync; head -c 32M ${disk} | sha256sum; ls /t`;
    const before = await vm().sh(content);
    await ioctl(vm(), 'destroy', 0);
    if (await tellsMedia()) assert.equal(await vm().sh(content), before);
    await vm().sh('umount /t && modprobe -r scsi_debug');
  });

  it('does not leave a COW file that says it is complete when a mount is refused', async () => {
    const [disk = ''] = await removableDisks(1);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
    const header = await cowHeader(vm(), disk, '/t/cow');
    await vm().sh('umount /t');
    await exchange(disk);
    assert.equal((await header()).isClean, true);
    await vm().sh(`mount -o ro ${disk} /t`);
    assert.equal((await info(vm(), 0)).error, -19);
    assert.equal((await header()).isClean, false);
    await vm().sh('umount /t');
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`e2fsck -fn ${disk} && modprobe -r scsi_debug`);
  });

  it('says so, although zeros are wanted instead of what its image cannot read', async () => {
    const [disk = ''] = await removableDisks(1);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4, 0, 1);
    await exchange(disk);
    // Before 5.15 nobody can know.
    if (await tellsMedia()) {
      await vm().sh(
        `${readImage.replace('of=/dev/null', 'of=/tmp/read')} && ! tr -d '\\0' < /tmp/read | grep -q .`,
      );
      assert.equal((await info(vm(), 0)).error, -19);
    }
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t && modprobe -r scsi_debug');
  });

  it('remembers what it recorded in vain, whatever the medium says since', async () => {
    const [disk = ''] = await removableDisks(1);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
    await vm().sh('umount /t');
    await ioctl(vm(), 'destroy', 0);
    await ioctl(vm(), 'reload-snap', disk, '/cow', 0);
    await writeLastSector(disk);
    await exchange(disk);
    await ioctl(vm(), 'destroy', 0);
    await ioctl(vm(), 'reload-snap', disk, '/cow', 0);
    await vm().sh(`mount ${disk} /t`);
    assert.equal((await info(vm(), 0)).error, (await tellsMedia()) ? -116 : -19);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && modprobe -r scsi_debug`);
  });

  it('fails as a tracker of another medium when that has no COW file of its own', async () => {
    const [disk = '', other = ''] = await removableDisks(2);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
    const [sector = ''] = (await vm().sh(`${tests}/imagecheck extents /t/cow`)).split(' ');
    await vm().sh(
      `umount /t && dd if=/dev/zero of=${other} bs=512 seek=${sector} count=8 oflag=direct conv=notrunc status=none`,
    );
    await exchange(disk);
    await writeLastSector(disk);
    await vm().sh(`mount ${disk} /t`);
    assert.equal((await info(vm(), 0)).error, (await tellsMedia()) ? -19 : -5);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && modprobe -r scsi_debug`);
  });

  it('goes on when an error makes its filesystem read-only', async () => {
    const disk = vm().disk('a');
    await vm().sh(`wipefs -qa ${disk}`);
    await mountExt4(vm(), disk, '/t', '-e remount-ro');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 8);
    await vm().sh('dd if=/dev/elastio-snap0 of=/tmp/image bs=1M iflag=direct status=none');
    const same = `${tests}/imagecheck same /dev/elastio-snap0 /tmp/image`;
    await vm().sh(
      `cp -r /etc/ssl /t/more; echo broken > /sys/fs/ext4/$(basename $(readlink -f ${disk}))/trigger_fs_error; ! touch /t/new 2> /dev/null`,
    );
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [3, 0]);
    await vm().sh(same);
    await vm().sh(`umount /t && e2fsck -fy ${disk} || test $? = 1`);
    assert.equal((await info(vm(), 0)).state, states.dormantSnapshot);
    await vm().sh(`mount ${disk} /t && ${same}`);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && e2fsck -fn ${disk} && ! ${tests}/ioctl-tool info 0`);
  });

  // The number of the medium is another one, and the medium the same: DESTROY does not delete the file then.
  it('does not leave a COW file that says it is complete behind a reboot that closes it, an exchange and DESTROY', async () => {
    const [disk = ''] = await removableDisks(1);
    await mountExt4(vm(), disk, '/t', '-b 4096');
    await ioctl(vm(), 'setup', disk, '/t/cow', 0, 4);
    const kept = vm().disk('b');
    const [sector = ''] = (
      await vm().sh(`mount -o remount,commit=600 /t && sync; ${tests}/imagecheck extents /t/cow`)
    ).split(' ');
    const keep = (at: number): string =>
      `dd if=${disk} of=${kept} bs=512 skip=${sector} seek=${at} count=1 iflag=direct oflag=direct conv=notrunc status=none`;
    // What the machine has behind the closing of the file is gone with it: it is kept on another disk.
    await vm().sh(
      `insmod ${tests}/elio-test.ko hold_reboot=1
       { until dmesg | grep -q 'the machine goes down'; do sleep 0.1; done; ${keep(0)}
         echo 1 > /sys/bus/pseudo/drivers/scsi_debug/virtual_gb; blockdev --getsz ${disk}
         ${tests}/ioctl-tool destroy 0; ${keep(1)}; sync
         echo 0 > /sys/module/elio_test/parameters/hold_reboot; } < /dev/null > /dev/null 2>&1 &`,
    );
    await vm().reboot();
    const flags = await vm().sh(
      `for at in 0 1; do dd if=${vm().disk('b')} bs=512 skip=$at count=1 iflag=direct status=none | od -A n -t x1 -N 5; done`,
    );
    const [closed = '', destroyed = ''] = flags
      .trimEnd()
      .split('\n')
      .map((line) => line.trim());
    assert.match(closed, /^(\S\S ){4}01$/);
    assert.equal(destroyed, closed.replace(/01$/, '00'));
    await loadDriver(vm());
  });
});
