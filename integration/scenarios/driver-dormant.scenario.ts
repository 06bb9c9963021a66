// SPDX-License-Identifier: Apache-2.0
// A tracker outlives its filesystem's mount: what is written meanwhile, by whatever program, is in the image or the index.
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
  writeFiles,
} from './driver.js';

const cowMib = 16;
const image = '/dev/elastio-snap0';

describe('a tracker whose filesystem is unmounted', () => {
  const vm = useVm({
    name: 'dormant',
    cpus: 1,
    disks: [
      { name: 'origin', sizeMib: 64 },
      { name: 'copy', sizeMib: 64 },
    ],
  });
  let origin = '';
  let copy = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
    copy = vm().disk('copy');
  });
  beforeEach(async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh(
      'cp -r /etc/lvm /t/kept && dd if=/dev/urandom of=/t/data bs=1M count=8 status=none',
    );
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, cowMib);
    await vm().sh(`${tests}/imagecheck extents /t/cow1 > /tmp/cow1`);
    await copyImage(vm(), copy);
  });
  afterEach(async () => {
    await vm().run(
      `for d in /b /c /t; do while umount $d 2> /dev/null; do :; done; done; ${tests}/ioctl-tool destroy 0`,
    );
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
  });

  async function state(): Promise<number> {
    const { state, error } = await info(vm(), 0);
    assert.equal(error, 0);
    return state;
  }

  /** Every block that differs from the copy has an entry in the COW file of the changes since. */
  async function checkChanges(): Promise<void> {
    if ((await state()) === states.snapshot) await ioctl(vm(), 'inc', 0);
    await ioctl(vm(), 'snap', '/t/cow2', 0, cowMib);
    await vm().sh(`${tests}/imagecheck extents /t/cow2 > /tmp/cow2`);
    await vm().sh(
      `${tests}/imagecheck changed ${copy} ${image} /t/cow1 /tmp/cow1 /tmp/cow2 && rm /t/cow1`,
    );
    await vm().sh(`e2fsck -fn ${image}`);
  }

  it('is dormant when umount returns and active when mount returns, in snapshot mode', async () => {
    await writeFiles(vm());
    const before = await info(vm(), 0);
    await vm().sh('umount /t');
    const dormant = await info(vm(), 0);
    assert.deepEqual(
      { ...dormant, nrChangedBlocks: 0 },
      {
        ...before,
        state: states.dormantSnapshot,
        nrChangedBlocks: 0,
      },
    );
    const read = await vm().run(`dd if=${image} of=/dev/null bs=4k count=1 iflag=direct`);
    assert.match(read.stderr, /Device or resource busy/);
    assert.equal(await tryIoctl(vm(), 'inc', 0), 'EINVAL');
    assert.equal(await tryIoctl(vm(), 'snap', '/t/cow2', 0, cowMib), 'EINVAL');
    assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/cow2', 1, cowMib), 'EINVAL');

    await vm().sh(`mount ${origin} /t`);
    assert.equal(await state(), states.snapshot);
    await checkImage(vm(), copy);
    await writeFiles(vm());
    await checkImage(vm(), copy);
    await checkChanges();
  });

  it('is dormant and active again in incremental mode', async () => {
    await ioctl(vm(), 'inc', 0);
    for (let round = 0; round < 3; round += 1) {
      await writeFiles(vm());
      await vm().sh('umount /t');
      assert.equal(await state(), states.dormantIncremental);
      await vm().sh(`mount ${origin} /t`);
      assert.equal(await state(), states.incremental);
    }
    await checkChanges();
  });

  it('counts nothing but the end of the filesystem: binds, namespaces, lazy unmounts, both mount interfaces', async () => {
    await vm().sh('mkdir -p /b /c && mount --bind /t /b && mount --bind /t/kept /c');
    await vm().sh(
      'unshare --mount --propagation private sleep 600 < /dev/null > /dev/null 2>&1 & echo $! > /run/holder; sleep 0.5',
    );
    for (const step of ['umount /t', 'umount /c', 'umount -l /b', 'true']) {
      await vm().sh(step);
      assert.equal(await state(), states.snapshot, step);
    }
    await vm().sh(
      'kill $(cat /run/holder); while kill -0 $(cat /run/holder); do sleep 0.1; done 2> /dev/null',
    );
    await vm().sh(`until e2fsck -fn ${origin} > /dev/null; do sleep 0.2; done`);
    assert.equal(await state(), states.dormantSnapshot);

    // Read-only does as well, and then a remount changes nothing; without recovery it does not.
    await vm().sh(`mount -o ro,noload ${origin} /t`);
    assert.equal(await state(), states.dormantSnapshot);
    await vm().sh(`umount /t && LIBMOUNT_FORCE_MOUNT2=always mount -o ro ${origin} /t`);
    assert.equal(await state(), states.snapshot);
    await checkImage(vm(), copy);
    await vm().sh('mount -o remount,rw /t && mount -o remount,ro /t && mount -o remount,rw /t');
    assert.equal(await state(), states.snapshot);
    await writeFiles(vm());
    await checkImage(vm(), copy);
    await vm().sh(`mount ${origin} /b && umount /t`);
    assert.equal(await state(), states.snapshot);
    await vm().sh('umount /b');
    assert.equal(await state(), states.dormantSnapshot);
    // What needs no recovery may be written without.
    await vm().sh(`mount -o rw,noload ${origin} /t && ! rm -f /t/cow1 2> /dev/null`);
    assert.equal(await state(), states.snapshot);
    await vm().sh('umount /t');
    assert.equal(await state(), states.dormantSnapshot);
    await vm().sh(`LIBMOUNT_FORCE_MOUNT2=never mount ${origin} /t`);
    await checkChanges();
  });

  // What has changed already needs no entry and breaks no seal: the superblock can have.
  const offline = [
    ['a check of the filesystem', false, `e2fsck -fy ORIGIN || test $? = 1`],
    ['a change of its parameters', false, `tune2fs -L changed -c 7 ORIGIN`],
    [
      'a raw writer',
      true,
      // Free blocks and those of a file that writeFiles() leaves alone, past the filesystem.
      'dd if=/dev/urandom of=ORIGIN bs=4k seek=$(cat /tmp/block) count=3 oflag=direct status=none && dd if=/dev/urandom of=ORIGIN bs=4k seek=$(($(cat /tmp/block) + 8)) count=2 conv=fsync status=none',
    ],
  ] as const;
  for (const mode of ['snapshot', 'incremental'] as const) {
    for (const [what, breaksSeal, command] of offline) {
      it(`sees what ${what} writes meanwhile, in ${mode} mode`, async () => {
        await vm().sh(
          `sync; ${tests}/imagecheck extents /t/data | awk 'NR == 1 { print $1 / 8 + 1200 }' > /tmp/block`,
        );
        await writeFiles(vm());
        if (mode === 'incremental') await ioctl(vm(), 'inc', 0);
        const header = await cowHeader(vm(), origin, '/t/cow1');
        await vm().sh('umount /t');
        assert.ok((await header()).isClean);
        await vm().sh(command.replaceAll('ORIGIN', origin));
        if (breaksSeal) assert.ok(!(await header()).isClean);
        const changed = (await info(vm(), 0)).nrChangedBlocks;
        await vm().sh(`mount ${origin} /t`);
        assert.equal(await state(), mode === 'snapshot' ? states.snapshot : states.incremental);
        assert.ok((await info(vm(), 0)).nrChangedBlocks >= changed);
        if (mode === 'snapshot') await checkImage(vm(), copy);
        await checkChanges();
      });
    }
  }

  it('fails when its COW file was written to meanwhile, and the file does not say that it is complete', async () => {
    const header = await cowHeader(vm(), origin, '/t/cow1');
    await vm().sh('umount /t');
    assert.ok((await header()).isClean);
    const [first] = (await vm().sh('cat /tmp/cow1')).trim().split('\n');
    const [sector] = (first ?? '').split(' ');
    await vm().sh(
      `dd if=/dev/zero of=${origin} bs=512 seek=$((${sector ?? ''} + 4096)) count=8 oflag=direct status=none`,
    );
    assert.equal((await info(vm(), 0)).error, -5);
    assert.ok(!(await header()).isClean);
    await vm().sh(`mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, -5);
  });

  it('fails at the mount when more was written meanwhile than its COW file holds, and writes nothing elsewhere', async () => {
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('cd /t && find kept -type f | sort | xargs sha256sum > /tmp/sums');
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, 2);
    const data = await vm().sh(`sync; ${tests}/imagecheck extents /t/data`);
    await vm().sh('umount /t && dd if=/dev/urandom of=/tmp/new bs=1M count=4 status=none');
    await vm().sh(
      `dd if=/tmp/new of=${origin} bs=4k seek=$((${/^\d+/.exec(data)?.[0] ?? ''} / 8)) oflag=direct conv=notrunc status=none`,
    );
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [1, 0]);
    await vm().sh(`mount ${origin} /t`);
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [1, -27]);
    await vm().sh('cmp -n 4194304 /tmp/new /t/data && cd /t && sha256sum --quiet -c /tmp/sums');
    await vm().sh(`umount /t && e2fsck -fn ${origin}`);
  });

  it('fails when its COW file is gone, and when its disk was', async () => {
    await vm().sh('umount /t');
    // Past the driver's eyes, and the kernel's: the directory entry goes.
    await vm().sh(`debugfs -w -R 'unlink /cow1' ${origin} 2> /dev/null; mount ${origin} /t`);
    const { error, state: failed } = await info(vm(), 0);
    assert.equal(error, -2);
    assert.equal(failed, states.dormantSnapshot);
    await ioctl(vm(), 'destroy', 0);

    await vm().sh(
      `umount /t; modprobe loop && truncate -s 64M /tmp/disk && ${mkfs('ext4', '/tmp/disk', '-F')} && losetup /dev/loop0 /tmp/disk && mount /dev/loop0 /t`,
    );
    await ioctl(vm(), 'setup', '/dev/loop0', '/t/cow1', 0, 4);
    await vm().sh('umount /t && losetup -d /dev/loop0 && ! losetup /dev/loop0 2> /dev/null');
    assert.equal(await state(), states.dormantSnapshot);
    await vm().sh('losetup /dev/loop0 /tmp/disk && mount /dev/loop0 /t');
    assert.equal((await info(vm(), 0)).error, -19);
    await vm().sh('umount /t && losetup -d /dev/loop0 && rm /tmp/disk');
  });

  it('fails when its disk may have another content, which no kernel tells of nbd', async () => {
    const disk = '/dev/nbd0';
    const connect = `{ ${tests}/nbd ${disk} /tmp/content < /dev/null > /tmp/nbd.log 2>&1 & } && until test "$(blockdev --getsize64 ${disk})" -gt 0; do sleep 0.1; done; udevadm settle`;
    const disconnect = 'pkill -n -x nbd; while pgrep -x nbd > /dev/null; do sleep 0.1; done';
    await vm().sh(`modprobe nbd nbds_max=1 && truncate -s 48M /tmp/content && ${connect}`);
    await mountExt4(vm(), disk, '/b');
    await ioctl(vm(), 'setup', disk, '/b/cow', 1, 8);
    await vm().sh(`cp -r /etc/ssl /b/ && umount /b && ${disconnect}`);
    await vm().sh(`${connect} && mount ${disk} /b`);
    const { state, error } = await info(vm(), 1);
    assert.deepEqual([state, error], [states.dormantSnapshot, -19]);
    await ioctl(vm(), 'destroy', 1);
    await vm().sh(`umount /b && ${disconnect}; rm /tmp/content && modprobe -r nbd`);
  });

  it('finds its COW file again in a directory that was renamed', async () => {
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('mkdir /t/a');
    await ioctl(vm(), 'setup', origin, '/t/a/cow', 0, cowMib);
    await vm().sh(`mv /t/a /t/b && umount /t && mount ${origin} /t`);
    const { error, cow } = await info(vm(), 0);
    assert.deepEqual([await state(), error, cow], [states.snapshot, 0, '/b/cow']);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('! test -e /t/b/cow');
  });

  it('fails when its COW file has a hole', async () => {
    await vm().sh(
      `umount /t && debugfs -w -R 'punch /cow1 2048 2048' ${origin} && mount ${origin} /t`,
    );
    assert.equal((await info(vm(), 0)).error, -5);
    await vm().sh('echo more > /t/more && sync');
  });

  it('is destroyed without a trace but its COW file, which stays', async () => {
    await vm().sh('umount /t');
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`! test -e ${image} && mount ${origin} /t && test -e /t/cow1 && rm /t/cow1`);
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, 4);
  });

  it('follows mounts and unmounts of two processes in a loop', async () => {
    await vm().sh('umount /t');
    const loop = (directory: string): string =>
      `(mkdir -p ${directory}; for n in $(seq ${rounds(40, 400)}); do mount ${origin} ${directory} 2> /dev/null && { echo $n > ${directory}/file$n; umount ${directory}; }; done)`;
    await vm().sh(`${loop('/b')} & ${loop('/c')}; wait`);
    assert.equal(await state(), states.dormantSnapshot);
    await vm().sh(`mount ${origin} /t`);
    await checkImage(vm(), copy);
    await checkChanges();
  });
});

describe('a dormant tracker with the member of a RAID in the end of its disk', () => {
  const vm = useVm({
    name: 'dormant-member',
    cpus: 1,
    disks: [
      { name: 'origin', sizeMib: 128 },
      { name: 'copy', sizeMib: 128 },
    ],
  });

  it('has what the tracker of the RAID writes there for itself', async () => {
    const [origin, copy] = [vm().disk('origin'), vm().disk('copy')];
    await loadDriver(vm());
    await vm().sh(`${mkfs('ext4', origin, '-b 4096')} 48M && mkdir -p /t /u && mount ${origin} /t`);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 32);
    await copyImage(vm(), copy);
    // A table of partitions has its place before the filesystem. Without accounting RAID 0 passes a bio on as it is.
    await vm().sh(
      `umount /t && echo 'start=64MiB, size=64MiB' | sfdisk -q --wipe=never -X dos ${origin} && udevadm settle && modprobe raid0 &&
       mdadm --build /dev/md0 --run --force --level=0 --raid-devices=1 --chunk=64 ${origin}-part1 &&
       echo 0 > /sys/block/md0/queue/iostats`,
    );
    await mountExt4(vm(), '/dev/md0', '/u');
    await vm().sh('dd if=/dev/urandom of=/u/data bs=1M count=8 conv=fsync status=none');
    await ioctl(vm(), 'setup', '/dev/md0', '/u/cow', 1, 16);
    await vm().sh(
      'dd if=/dev/urandom of=/u/data bs=1M count=8 oflag=direct conv=notrunc status=none',
    );
    assert.equal((await info(vm(), 1)).error, 0);
    await ioctl(vm(), 'destroy', 1);
    await vm().sh(`umount /u && mdadm --stop /dev/md0 && mount ${origin} /t`);
    assert.deepEqual(
      [(await info(vm(), 0)).state, (await info(vm(), 0)).error],
      [states.snapshot, 0],
    );
    await checkImage(vm(), copy);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t');
  });
});
