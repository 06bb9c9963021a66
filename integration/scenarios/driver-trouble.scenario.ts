// SPDX-License-Identifier: Apache-2.0
// Origins that are slow, fail or stop answering, below a file's blocks or below the COW file: only the snapshot may fail, every
// write ends with the result that the device gives, and nothing is left when the device answers again.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import {
  checkImage,
  copyImage,
  cowHeader,
  info,
  ioctl,
  loadDriver,
  mkfs,
  mountExt4,
  states,
  tests,
  tryIoctl,
} from './driver.js';
import { linear, loadTable } from './mapped.js';

const origin = '/dev/mapper/troubled';
const image = '/dev/elastio-snap0';
const writesOnly = '0 3600 1 error_writes';

describe('an origin in trouble', () => {
  const vm = useVm({
    name: 'trouble',
    disks: [
      { name: 'origin', sizeMib: 64 },
      { name: 'copy', sizeMib: 64 },
    ],
  });
  let disk = '';
  let copy = '';

  before(async () => {
    await loadDriver(vm());
    disk = vm().disk('origin');
    copy = vm().disk('copy');
    await vm().sh('modprobe -a dm-mod dm-delay dm-flakey');
  });

  /** The origin, all of it sound, with a file of random data and a snapshot whose image is kept. */
  async function setUp(): Promise<void> {
    await vm().sh(`dmsetup create troubled ${linear(disk)} && udevadm settle`);
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh('dd if=/dev/urandom of=/t/old bs=1M count=4 status=none && sync');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
    await copyImage(vm(), copy);
  }

  /** The sectors of a file of the origin are on a target that gives trouble; of all others nothing changes. */
  async function trouble(file: string, target: string): Promise<void> {
    await vm().sh(
      `${tests}/imagecheck extents ${file} | sort -n | awk -v size=$(blockdev --getsz ${disk}) '
         function sound(to) { if (to > at) print at + 0, to - at, "linear ${disk}", at + 0 }
         { sound($1); t = "${target}"; gsub("SECTOR", $1, t); print $1, $2, t; at = $1 + $2 }
         END { sound(size) }' > /tmp/table`,
    );
    await loadTable(vm(), 'troubled', '/tmp/table');
  }

  async function endTrouble(): Promise<void> {
    await loadTable(vm(), 'troubled', linear(disk));
  }

  /** Nothing holds the origin any more, and its filesystem is sound. */
  async function tearDown(): Promise<void> {
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(
      `umount /t && e2fsck -fn ${origin} && udevadm settle && dmsetup remove --retry troubled`,
    );
  }

  const overwrite =
    'dd if=/tmp/new of=/t/old bs=64k count=16 oflag=direct conv=notrunc status=none';
  const makeNew = 'dd if=/dev/urandom of=/tmp/new bs=1M count=1 status=none';

  async function expectFailure(): Promise<void> {
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [3, -5]);
    const read = await vm().run(`dd if=${image} of=/dev/null bs=4k count=1 iflag=direct`);
    assert.match(read.stderr, /Input\/output error/);
    for (const command of [['inc'], ['snap', '/t/cow2']])
      assert.equal(await tryIoctl(vm(), ...command, 0), 'EINVAL');
  }

  it('fails its snapshot where it cannot be read, and gives its own error to who writes there', async () => {
    await setUp();
    await trouble('/t/old', 'error');
    await vm().sh(makeNew);
    const { stderr } = await vm().run(overwrite);
    assert.match(stderr, /Input\/output error/);
    await expectFailure();
    await endTrouble();
    await vm().sh(`${overwrite} && cmp -n 1048576 /tmp/new /t/old`);
    await tearDown();
  });

  it('shows zeros where it cannot be read, when errors are to be ignored, and its snapshot has failed then', async () => {
    await setUp();
    await ioctl(vm(), 'destroy', 0);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16, 0, 1);
    // A suspended device gives an error to what is only read ahead.
    await vm().sh(
      `dmsetup suspend --nolockfs troubled
       dd if=${image} of=/dev/null bs=1M count=4 status=none < /dev/null > /dev/null 2>&1 &
       sleep 1; dmsetup resume troubled && wait $!`,
    );
    assert.equal((await info(vm(), 0)).error, 0);
    await trouble('/t/old', 'error');
    const [first = ''] = (await vm().sh(`${tests}/imagecheck extents /t/old`)).split(' ');
    await vm().sh(
      `dd if=${image} of=/tmp/zeros bs=64k skip=$((${first} * 512)) iflag=direct,skip_bytes count=1 status=none && cmp -n 65536 /tmp/zeros /dev/zero`,
    );
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [3, -5]);
    await vm().sh('dmesg | grep "elastio-snap: snapshot 0 .*failed (-5)"');
    await endTrouble();
    await vm().sh(`${makeNew} && ${overwrite}`);
    await tearDown();
  });

  it('fails while it is unmounted, under a read of the image: the COW file says that it is complete, and is', async () => {
    await setUp();
    await ioctl(vm(), 'destroy', 0);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16, 0, 1);
    await copyImage(vm(), copy);
    const header = await cowHeader(vm(), disk, '/t/cow');
    await vm().sh(
      `dmsetup create broken --table "0 $(blockdev --getsz ${disk}) error" && udevadm settle`,
    );
    const [first = ''] = (await vm().sh(`${tests}/imagecheck extents /t/old`)).split(' ');
    // What is written, and flushed, goes straight to the disk.
    await trouble('/t/old', `delay /dev/mapper/broken SECTOR 4000 ${disk} SECTOR 0`);
    const read = await vm().run(
      `dd if=${image} of=/dev/null bs=4k skip=$((${first} * 512)) iflag=direct,skip_bytes count=1 < /dev/null & sleep 1; umount /t; wait $!`,
    );
    assert.match(read.stderr, /Input\/output error/);
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error, (await header()).isClean], [states.dormantSnapshot, 0, true]);
    await endTrouble();
    await vm().sh(`udevadm settle && dmsetup remove --retry broken && mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).state, states.snapshot);
    await checkImage(vm(), copy);
    await tearDown();
  });

  /** The one disk of scsi_debug. */
  async function scsiDisk(parameters: string): Promise<string> {
    await vm().sh(`modprobe scsi_debug dev_size_mb=48 ${parameters} && udevadm settle`);
    const model = await vm().sh('grep -l scsi_debug /sys/block/sd*/device/model');
    return `/dev/${model.split('/')[3] ?? ''}`;
  }

  // Other disks take a read of no sectors.
  it('is a SCSI disk, and readers of the image meet first writes on the same blocks: none fails', async () => {
    const scsi = await scsiDisk('delay=0');
    await mountExt4(vm(), scsi, '/t', '-b 4096');
    await vm().sh('dd if=/dev/urandom of=/t/old bs=1M count=12 status=none && sync');
    await ioctl(vm(), 'setup', scsi, '/t/cow', 0, 20);
    await vm().sh(`set -e -o pipefail
      sum() { dd if=${image} bs=64k iflag=direct status=none | sha256sum; }
      expected=$(sum)
      fio --name=w --filename=/t/old --rw=randwrite --bs=4k --size=12M --direct=1 --ioengine=libaio --iodepth=16 --rate_iops=600 --minimal > /dev/null &
      while kill -0 $! 2> /dev/null; do found=$(sum); test "$found" = "$expected"; done
      wait $!; found=$(sum); test "$found" = "$expected"`);
    assert.equal((await info(vm(), 0)).error, 0);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && e2fsck -fn ${scsi} && modprobe -r scsi_debug`);
  });

  it('fails its snapshot at a medium error, where a write is good', async () => {
    // Reads of these sectors fail; the filesystem has nothing there.
    const sector = 65536;
    const broken = await scsiDisk(`opts=2 medium_error_start=${sector} medium_error_count=8`);
    await vm().sh(`${mkfs('ext4', broken, '-b 4096')} && mkdir -p /t && mount ${broken} /t`);
    await ioctl(vm(), 'setup', broken, '/t/cow', 0, 8);
    await vm().sh(
      `dd if=/dev/zero of=${broken} bs=512 seek=${sector} count=8 oflag=direct conv=notrunc status=none`,
    );
    await expectFailure();
    // No new file: it could get blocks that were the COW file's, which still give trouble.
    await vm().sh(
      'dd if=/dev/urandom of=/t/old bs=64k seek=16 count=32 conv=notrunc,fsync status=none',
    );
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && e2fsck -fn ${broken} && modprobe -r scsi_debug`);
  });

  it('fails its snapshot where the COW file cannot be written, and takes every write', async () => {
    await setUp();
    await trouble('/t/cow', `flakey ${disk} SECTOR ${writesOnly}`);
    await vm().sh(`${makeNew} && ${overwrite} && cmp -n 1048576 /tmp/new /t/old`);
    // What was saved is stored in the background.
    await vm().sh(
      `until ${tests}/ioctl-tool info 0 | grep -q '"error":-5'; do sleep 0.2; test $((n += 1)) -lt 200 || exit 1; done`,
    );
    await expectFailure();
    // No new file: it could get blocks that were the COW file's, which still give trouble.
    await vm().sh(
      'dd if=/dev/urandom of=/t/old bs=64k seek=16 count=32 conv=notrunc,fsync status=none',
    );
    await endTrouble();
    await tearDown();
  });

  it('cannot be read where the COW file cannot: a reader gets its error for what was saved there, and no other', async () => {
    await setUp();
    await vm().sh(`${makeNew} && ${overwrite} && sync`);
    // What was saved is read from memory until it has landed.
    await vm().sh(
      `written() { awk '{ print $5 }' /sys/block/$(basename $(readlink -f ${origin}))/stat; }
       until now=$(written); test "$before" = "$now"; do before=$now; sleep 1; done`,
    );
    const extents = (await vm().sh(`${tests}/imagecheck extents /t/old`)).trim().split('\n');
    const [[first = 0], [last = 0, length = 0]] = [extents[0], extents.at(-1)].map((extent) =>
      (extent ?? '').split(' ').map(Number),
    ) as [number[], number[]];
    const read = (device: string, sector: number): string =>
      `dd if=${device} of=/tmp/block bs=4k skip=${sector / 8} count=1 iflag=direct status=none`;
    await trouble('/t/cow', 'error');
    assert.match((await vm().run(read(image, first))).stderr, /Input\/output error/);
    const notSaved = last + length - 8;
    await vm().sh(
      `${read(image, notSaved)} && mv /tmp/block /tmp/expected && ${read(copy, notSaved)} && cmp /tmp/block /tmp/expected`,
    );
    assert.equal((await info(vm(), 0)).error, 0);
    await endTrouble();
    await checkImage(vm(), copy);
    await tearDown();
  });

  it('keeps its snapshot where only a write fails: its error is the writer’s', async () => {
    await setUp();
    await trouble('/t/old', `flakey ${disk} SECTOR ${writesOnly}`);
    await vm().sh(makeNew);
    const { stderr } = await vm().run(overwrite);
    assert.match(stderr, /Input\/output error/);
    assert.equal((await info(vm(), 0)).error, 0);
    await checkImage(vm(), copy);
    await endTrouble();
    await vm().sh(overwrite);
    await checkImage(vm(), copy);
    await tearDown();
  });

  it('stops answering for a time: writes, image reads and calls wait, and all of them end', async () => {
    await setUp();
    await vm().sh(makeNew);
    await vm().sh(
      `dmsetup suspend --nolockfs troubled
       { ${overwrite}; echo $? > /tmp/write; } < /dev/null > /dev/null 2>&1 &
       { dd if=${image} of=/dev/null bs=1M count=8 iflag=direct status=none; echo $? > /tmp/read; } < /dev/null > /dev/null 2>&1 &
       sleep 3; test ! -e /tmp/write && test ! -e /tmp/read && dmsetup resume troubled && wait && test "$(cat /tmp/write /tmp/read)" = "$(printf '0\\n0')"`,
    );
    await checkImage(vm(), copy);
    await vm().sh(
      `dmsetup suspend --nolockfs troubled
       { ${tests}/ioctl-tool inc 0 > /tmp/inc; } < /dev/null 2>&1 &
       sleep 3; dmsetup resume troubled && wait && grep -x ok /tmp/inc`,
    );
    await tearDown();
  });

  it('stops answering while a call waits for it: another snapshot that fails meanwhile does not keep its device', async () => {
    await setUp();
    await ioctl(vm(), 'inc', 0);
    await mountExt4(vm(), copy, '/c', '-b 4096');
    await ioctl(vm(), 'setup', copy, '/c/cow', 1, 4);
    await vm().sh(
      `dd if=/dev/zero of=/t/new bs=1M count=1 status=none && dmsetup suspend --nolockfs troubled
       { ${tests}/ioctl-tool snap /t/cow2 0 16 > /tmp/snap; } < /dev/null 2>&1 & sleep 1
       { ${tests}/ioctl-tool setup ${copy} /c/cow2 2 4 > /tmp/again; } < /dev/null 2>&1 & sleep 1
       for n in 1 2; do dd if=/dev/zero of=/c/zeros bs=1M count=8 oflag=direct status=none; done`,
    );
    assert.equal((await info(vm(), 1)).error, -27);
    await vm().sh(
      'test ! -s /tmp/snap -a ! -s /tmp/again && dmsetup resume troubled && until test -s /tmp/snap -a -s /tmp/again; do sleep 0.1; done',
    );
    assert.equal(await vm().sh('cat /tmp/snap /tmp/again'), 'ok\nok\n');
    for (const minor of [1, 2]) await ioctl(vm(), 'destroy', minor);
    await vm().sh(`umount /c && e2fsck -fn ${copy}`);
    await tearDown();
  });

  it('is slow, and readers of the image and writers meet on the same blocks: the image stays', async () => {
    const times = rounds(2, 60);
    await setUp();
    await trouble('/t/old', `delay ${disk} SECTOR 20 ${disk} SECTOR 5`);
    const [first = ''] = (await vm().sh(`${tests}/imagecheck extents /t/old`)).split(' ');
    const region = `bs=64k skip=$((${first} * 512)) count=4194304 iflag=direct,skip_bytes,count_bytes status=none`;
    for (let round = 0; round < times; round++) {
      await vm().sh(
        `dd if=${copy} ${region} > /tmp/before; rm -f /tmp/stop; for n in 1 2 3; do
           { until test -e /tmp/stop; do dd if=${image} ${region} | cmp - /tmp/before || echo differs >> /tmp/differs; done; } < /dev/null > /dev/null 2>&1 &
         done
         for n in 1 2 3 4; do
           { for i in $(seq 10); do dd if=/dev/urandom of=/t/old bs=$((512 << (RANDOM % 8))) seek=$((RANDOM % 32)) count=1 oflag=direct conv=notrunc; done; touch /tmp/done$n; } < /dev/null > /dev/null 2>&1 &
         done
         until test -e /tmp/done1 -a -e /tmp/done2 -a -e /tmp/done3 -a -e /tmp/done4; do sleep 0.1; done; touch /tmp/stop; wait; rm /tmp/done?; ! test -e /tmp/differs`,
        { timeoutMs: 300_000 },
      );
      await checkImage(vm(), copy);
      await ioctl(vm(), 'inc', 0);
      await ioctl(vm(), 'snap', `/t/cow${String(round)}`, 0, 16);
      await copyImage(vm(), copy);
    }
    await endTrouble();
    await tearDown();
  });
});
