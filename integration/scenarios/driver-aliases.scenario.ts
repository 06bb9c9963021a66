// SPDX-License-Identifier: Apache-2.0
// Other ways to the origin's sectors on the same disk: what is written by them is preserved and told, and each block once. And an
// origin that grows.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import {
  changedBlocks,
  cowHeader,
  destroyAndCheckExt4,
  info,
  ioctl,
  loadDriver,
  mkfs,
  mountExt4,
  tests,
  tryIoctl,
} from './driver.js';

const blockSize = 4096;
const mib = 1 << 20;
const originStartMib = 1;
const originMib = 40;
/** The filesystem does not reach behind it, so that the origin can be written raw there. */
const filesystemMib = 24;
const writtenMib = { snapshot: 28, incremental: 32 };
const writtenBlocks = 256;

describe('an alias of the origin', () => {
  const vm = useVm({
    name: 'aliases',
    cpus: 1,
    disks: [{ name: 'disk', sizeMib: 64 }],
  });
  let disk = '';
  let origin = '';

  before(async () => {
    await loadDriver(vm());
    disk = vm().disk('disk');
    origin = `${disk}-part1`;
    // sfdisk makes no partitions that overlap: the second one's place in the table (start and length) is written by hand.
    const sectors = (count: number): string =>
      Buffer.from(new Uint32Array([(count * mib) / 512]).buffer).toString('hex');
    const place = sectors(originStartMib + filesystemMib) + sectors(20);
    await vm().sh(
      `printf 'label: dos\\nstart=${originStartMib}MiB, size=${originMib}MiB\\nsize=20MiB\\n' | sfdisk -q ${disk} && udevadm settle &&
       echo ${place} | xxd -r -p | dd of=${disk} bs=1 seek=${446 + 16 + 8} conv=notrunc,fsync status=none &&
       udevadm settle && blockdev --rereadpt ${disk} && udevadm settle && test -e ${disk}-part2`,
    );
  });
  beforeEach(async () => {
    await vm().sh(
      `${mkfs('ext4', origin, '-b 4096')} ${filesystemMib}M && mkdir -p /t && mount ${origin} /t`,
    );
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 8);
  });
  afterEach(async () => {
    await destroyAndCheckExt4(vm(), 0, origin);
  });

  /** Writes through a device on which the origin begins at an offset in bytes; more than a request holds at once. */
  async function check(device: string, originOffset: number): Promise<void> {
    await vm().sh('sync; cp --sparse=never /dev/elastio-snap0 /tmp/copy');
    await checkWrite(device, originOffset, writtenMib.snapshot);
    await vm().sh(`${tests}/imagecheck same /dev/elastio-snap0 /tmp/copy`);
    await ioctl(vm(), 'inc', 0);
    await vm().sh('sync');
    await checkWrite(device, originOffset, writtenMib.incremental);
  }

  async function checkWrite(device: string, originOffset: number, atMib: number): Promise<void> {
    const before = (await info(vm(), 0)).nrChangedBlocks;
    const bytes = writtenBlocks * blockSize;
    await vm().sh(
      `dd if=/dev/urandom of=/tmp/new bs=${bytes} count=1 iflag=fullblock status=none &&
       dd if=/tmp/new of=${device} bs=${bytes} seek=${atMib * mib + originOffset} oflag=direct,seek_bytes conv=notrunc,fsync status=none &&
       dd if=${origin} bs=${bytes} skip=${atMib * mib} count=1 iflag=direct,skip_bytes status=none | cmp - /tmp/new`,
    );
    const first = (atMib * mib) / blockSize;
    const told = await changedBlocks(vm(), 1);
    assert.ok(
      told.some(([from, nr]) => from <= first && from + nr >= first + writtenBlocks),
      JSON.stringify(told),
    );
    assert.equal((await info(vm(), 0)).nrChangedBlocks, before + writtenBlocks);
  }

  it('is the origin itself, by bios that the block layer splits and submits again', async () => {
    const limit = `/sys/block/$(basename $(readlink -f ${disk}))/queue/max_sectors_kb`;
    const former = (await vm().sh(`cat ${limit}; echo 64 > ${limit}`)).trim();
    await check(origin, 0);
    await vm().sh(`echo ${former} > ${limit}`);
  });

  it('is the whole disk', async () => {
    await check(disk, originStartMib * mib);
  });

  it('is another partition that overlaps it', async () => {
    await check(`${disk}-part2`, -filesystemMib * mib);
  });

  it('cannot be tracked beside it', async () => {
    const other = `${disk}-part2`;
    await vm().sh(`${mkfs('ext4', other)} && mkdir -p /b && mount ${other} /b`);
    assert.equal(await tryIoctl(vm(), 'setup', other, '/b/cow', 1, 8), 'EINVAL');
    await vm().sh(`dmesg | grep 'shares sectors with .*, which is tracked' && umount /b`);
  });

  it('is a mapped device on such a partition, whose bios are nested in its own', async () => {
    const other = `${disk}-part2`;
    await vm().sh(
      `modprobe dm-mod && dmsetup create alias --table "0 $(blockdev --getsz ${other}) linear ${other} 0" && udevadm settle`,
    );
    await check('/dev/mapper/alias', -filesystemMib * mib);
    await vm().sh('udevadm settle; dmsetup remove alias');
  });

  it('is a loop device on the whole disk', async () => {
    await vm().sh(`modprobe loop && losetup --direct-io=on /dev/loop0 ${disk}`);
    await check('/dev/loop0', originStartMib * mib);
    await vm().sh('udevadm settle; losetup -d /dev/loop0');
  });
});

describe('an origin that grows', () => {
  const vm = useVm({ name: 'growth', cpus: 1, disks: [{ name: 'disk', sizeMib: 128 }] });
  const origin = '/dev/mapper/growing';

  before(() => loadDriver(vm()));
  beforeEach(async () => {
    await vm().sh(
      `modprobe dm-mod && dmsetup create growing --table "0 65536 linear ${vm().disk('disk')} 0" && udevadm settle`,
    );
    await mountExt4(vm(), origin, '/t', '-b 4096');
    // More than half of the origin: what is written inside does not fill it before something is written behind its end.
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 20);
  });
  afterEach(async () => {
    await vm().run(
      `${tests}/ioctl-tool destroy 0; umount /t; udevadm settle; dmsetup remove growing`,
    );
  });

  // Room for what is written beside the COW file: where writeback has to wait for the space of a file that was deleted, ext4 of 7.3
  // loses data, with and without a tracker.
  async function grow(): Promise<void> {
    await vm().sh(
      `echo "0 229376 linear ${vm().disk('disk')} 0" | dmsetup load growing && dmsetup suspend growing && dmsetup resume growing &&
       test $(blockdev --getsz ${origin}) = 229376`,
    );
  }

  for (const mode of ['snapshot', 'incremental'] as const) {
    it(`fails its tracker in ${mode} mode at the first write behind its old end, and takes every write`, async () => {
      if (mode === 'incremental') await ioctl(vm(), 'inc', 0);
      await grow();
      await vm().sh('echo inside > /t/file && sync');
      assert.equal((await info(vm(), 0)).error, 0);
      await vm().sh(`resize2fs ${origin} > /dev/null 2>&1`);
      await vm().sh(
        'dd if=/dev/urandom of=/tmp/new bs=1M count=40 status=none && cp /tmp/new /t/new && sync && echo 3 > /proc/sys/vm/drop_caches && cmp /tmp/new /t/new',
      );
      assert.equal((await info(vm(), 0)).error, -27);
      await vm().sh('dmesg | grep "failed (-27): the origin has grown"');
      await destroyAndCheckExt4(vm(), 0, origin);
    });
  }

  it('ends a COW file that says it is complete before its tracker fails', async () => {
    const header = await cowHeader(vm(), origin, '/t/cow');
    await vm().sh('umount /t');
    assert.ok((await header()).isClean);
    await grow();
    await vm().sh(`dd if=/dev/urandom of=${origin} bs=1M seek=32 count=1 oflag=direct status=none`);
    assert.equal((await info(vm(), 0)).error, -27);
    assert.ok(!(await header()).isClean);
  });
});
