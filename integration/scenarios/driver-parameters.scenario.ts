// SPDX-License-Identifier: Apache-2.0
// The module's parameters with their bounds, and what an administrator finds in the kernel log.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { info, insmod, ioctl, mountExt4, tests, tryIoctl } from './driver.js';

describe('the module', () => {
  const vm = useVm({
    name: 'parameters',
    leakSearch: true,
    cpus: 1,
    disks: [{ name: 'origin', sizeMib: 64 }],
  });
  const load = (parameters = ''): string => `${insmod} ${parameters}`;
  let origin = '';

  before(async () => {
    origin = vm().disk('origin');
    await mountExt4(vm(), origin, '/t', '-b 4096');
  });
  afterEach(async () => {
    await vm().run('rmmod elastio-snap');
  });

  const refused = [
    'pending_max_mib=0',
    'pending_max_mib=65537',
    'pending_max_mib=-1',
    'pending_max_mib=many',
    'cow_fallocate_percentage_default=0',
    'cow_fallocate_percentage_default=101',
  ];
  for (const parameter of refused) {
    it(`does not load with ${parameter}, and says why`, async () => {
      assert.match((await vm().run(load(parameter))).stderr, /Invalid parameters/);
      const [name = '', value = ''] = parameter.split('=');
      await vm().sh(`dmesg | tail -5 | grep "elastio-snap: parameter ${name}: ${value} is not a"`);
      await vm().sh(load());
    });
  }

  it('takes its defaults from parameters', async () => {
    await vm().sh(load('cow_fallocate_percentage_default=20 cow_max_memory_default=1234567'));
    await ioctl(vm(), 'setup', origin, '/t/cow', 0);
    const { cowSizeBytes, cacheSizeBytes } = await info(vm(), 0);
    const size = Number(await vm().sh(`blockdev --getsize64 ${origin}`));
    assert.equal(cowSizeBytes, Math.ceil((size * 0.2) / 4096) * 4096);
    assert.equal(cacheSizeBytes, 1234567);
    await ioctl(vm(), 'destroy', 0);
  });

  it('has 24 minors, at most 255', async () => {
    for (const [parameter, count] of [
      ['', 24],
      ['max_snap_devices=0', 24],
      ['max_snap_devices=3', 3],
      ['max_snap_devices=1000', 255],
    ] as const) {
      await vm().sh(load(parameter));
      assert.equal(
        await vm().sh('cat /sys/module/elastio_snap/parameters/max_snap_devices'),
        `${count}\n`,
      );
      assert.equal(await tryIoctl(vm(), 'info', count - 1), 'ENOENT');
      assert.equal(await tryIoctl(vm(), 'info', count), 'EINVAL');
      await vm().sh('rmmod elastio-snap');
    }
    await vm().sh(load());
  });

  it('saves with a mebibyte of memory what would need much more, and takes no bad value while it runs', async () => {
    await vm().sh(load('pending_max_mib=1'));
    const parameter = '/sys/module/elastio_snap/parameters/pending_max_mib';
    await vm().sh(`! echo 0 > ${parameter}; test $(cat ${parameter}) = 1`);
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=16 status=none; sync');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 24);
    await vm().sh('dd if=/dev/elastio-snap0 of=/tmp/image bs=1M iflag=direct status=none');
    await vm().sh(
      'fio --name=w --filename=/t/data --rw=randwrite --bs=64k --size=16M --direct=1 --ioengine=libaio --iodepth=32 --minimal > /dev/null; dd if=/dev/zero of=/t/data bs=4M count=4 oflag=direct conv=notrunc status=none',
    );
    assert.equal((await info(vm(), 0)).error, 0);
    await vm().sh(`${tests}/imagecheck same /dev/elastio-snap0 /tmp/image && rm /tmp/image`);
    await ioctl(vm(), 'destroy', 0);
  });

  it('never has more saved than pending_max_mib, however slow the disk is', async () => {
    const sectors = Number(await vm().sh(`blockdev --getsz ${origin}`));
    const slow = '/dev/mapper/slow';
    // Reads are not delayed; writes are, until the test says so: those of freezing and thawing, too.
    const table = (ms: number): string => `0 ${sectors} delay ${origin} 0 0 ${origin} 0 ${ms}`;
    const reload = (ms: number): string =>
      `dmsetup suspend --nolockfs slow && dmsetup reload slow --table "${table(ms)}" && dmsetup resume slow`;
    const savedMib = async (): Promise<number> =>
      Number(
        await vm().sh(`awk '{ print $3 }' /sys/class/block/$(basename $(realpath ${slow}))/stat`),
      ) / 2048;

    await vm().sh(`umount /t; modprobe dm-delay; ${load('pending_max_mib=2')}`);
    try {
      await vm().sh(`dmsetup create slow --table "${table(0)}" && mount ${slow} /t`);
      await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=16 status=none; sync');
      await ioctl(vm(), 'setup', slow, '/t/cow', 0, 24);
      await vm().sh(
        `dd if=/dev/elastio-snap0 of=/tmp/image bs=1M iflag=direct status=none; ${reload(600_000)}`,
      );
      const before = await savedMib();
      await vm().sh(
        'fio --name=w --filename=/t/data --rw=write --bs=64k --size=16M --direct=1 --ioengine=libaio --iodepth=256 --minimal < /dev/null > /tmp/fio 2>&1 &',
      );
      let saved = 0;
      for (let again = -1; again < saved || saved === 0; await vm().sh('sleep 2')) {
        again = saved;
        saved = (await savedMib()) - before;
      }
      assert.equal(saved, 2);
      await vm().sh(`${reload(0)} && while pgrep fio; do sleep 0.1; done`);
      assert.equal((await info(vm(), 0)).error, 0);
      assert.ok((await savedMib()) - before >= 16);
      await vm().sh(`${tests}/imagecheck same /dev/elastio-snap0 /tmp/image`);
      await ioctl(vm(), 'destroy', 0);
    } finally {
      await vm().run(
        `${reload(0)}; umount /t; dmsetup remove slow; rm -f /tmp/image; mount ${origin} /t`,
      );
    }
  });

  it('tells in the kernel log what happened to which device, and why', async () => {
    await vm().sh(load());
    const device = (await vm().sh(`readlink -f ${origin}`)).trim();
    await vm().sh('dmesg -C');
    await ioctl(vm(), 'setup', origin, '/t/cow', 4, 8);
    await vm().sh(`umount /t && mount ${origin} /t && umount /t && rmmod elastio-snap`);
    await vm().sh(load());
    await ioctl(vm(), 'reload-snap', device, '/cow', 4);
    await vm().sh(`mount ${origin} /t`);
    await vm().sh(
      `! ${tests}/ioctl-tool setup ${origin} /t/other 5 4; ! ${tests}/ioctl-tool setup ${origin} /t/other 6 1`,
    );
    await vm().sh(
      'for n in 1 2; do dd if=/dev/urandom of=/t/data bs=1M count=12 oflag=direct status=none; done; ls /t > /dev/null',
    );
    const log = (await vm().sh('dmesg -t | grep ^elastio-snap:'))
      .trimEnd()
      .split('\n')
      .map((line) => line.replaceAll(device, 'DEVICE').replace('elastio-snap: ', ''));
    assert.deepEqual(log, [
      'snapshot 4 of DEVICE set up',
      'snapshot 4 of DEVICE is dormant: its filesystem was unmounted',
      'snapshot 4 of DEVICE is active again',
      'snapshot 4 of DEVICE is dormant: its filesystem was unmounted',
      'snapshot 4 of DEVICE is expected',
      'snapshot 4 of DEVICE is active again',
      'DEVICE is tracked already',
      'DEVICE is tracked already',
      'snapshot 4 of DEVICE failed (-27): the COW file is full',
    ]);
    await ioctl(vm(), 'destroy', 4);
  });
});
