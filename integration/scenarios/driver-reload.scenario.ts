// SPDX-License-Identifier: Apache-2.0
// A tracker is taken up again after the module or the machine was gone, and only when it can be proved that nothing is missing.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import {
  checkImage,
  copyImage,
  info,
  insmod,
  ioctl,
  loadDriver,
  mkfs,
  mountExt4,
  states,
  tests,
  tryIoctl,
  writeFiles,
} from './driver.js';
import { linear } from './mapped.js';

const cowMib = 16;
const image = '/dev/elastio-snap0';

type Mode = 'snapshot' | 'incremental';

const modes = {
  snapshot: { command: 'reload-snap', unverified: 5, active: 3 },
  incremental: { command: 'reload-inc', unverified: 4, active: 2 },
} as const;

describe('a tracker that is announced before its filesystem is mounted', () => {
  const vm = useVm({
    name: 'reload',
    disks: [
      { name: 'origin', sizeMib: 64 },
      { name: 'copy', sizeMib: 64 },
    ],
  });
  let origin = '';
  let copy = '';
  /** Where the COW file and a file of its size are on the origin. */
  let cow = '';
  let other = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
    copy = vm().disk('copy');
  });
  beforeEach(async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh(
      'cp -r /etc/lvm /t/kept && dd if=/dev/urandom of=/t/data bs=1M count=8 status=none && dd if=/dev/zero of=/t/other bs=1M count=16 status=none',
    );
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, cowMib);
    await copyImage(vm(), copy);
    cow = await vm().sh(`${tests}/imagecheck extents /t/cow1`);
    other = await vm().sh(`sync; ${tests}/imagecheck extents /t/other`);
    await writeFiles(vm());
  });
  afterEach(async () => {
    await vm().run(
      `for d in /t /b; do while umount $d 2> /dev/null; do :; done; done; blockdev --setrw ${origin}; for n in 0 1; do ${tests}/ioctl-tool destroy $n; done`,
    );
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
  });

  async function unloadAndLoad(): Promise<void> {
    await vm().sh(`umount /t && rmmod elastio-snap && ${insmod}`);
  }

  async function announce(mode: Mode, cow = '/cow1', cache = 0): Promise<void> {
    await ioctl(vm(), modes[mode].command, origin, cow, 0, cache);
    const announced = await info(vm(), 0);
    assert.deepEqual([announced.state, announced.error], [modes[mode].unverified, 0]);
  }

  async function mountActive(mode: Mode): Promise<void> {
    await vm().sh(`mount ${origin} /t`);
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [modes[mode].active, 0]);
  }

  /** The image is still the instant; and every block that changed since has its entry. */
  async function checkAll(mode: Mode): Promise<void> {
    if (mode === 'snapshot') {
      await checkImage(vm(), copy);
      await writeFiles(vm());
      await vm().sh('sync');
      await checkImage(vm(), copy);
      await vm().sh(
        `mkdir -p /image && mount -o ro ${image} /image && ls -R /image > /dev/null && umount /image`,
      );
      await ioctl(vm(), 'inc', 0);
    }
    await writeFiles(vm());
    await vm().sh('cat > /tmp/cow1', { stdin: cow });
    await ioctl(vm(), 'snap', '/t/cow2', 0, cowMib);
    await vm().sh(`${tests}/imagecheck extents /t/cow2 > /tmp/cow2`);
    await vm().sh(
      `${tests}/imagecheck changed ${copy} ${image} /t/cow1 /tmp/cow1 /tmp/cow2 && e2fsck -fn ${image}`,
    );
  }

  /** The origin's sector where a file begins. */
  function firstSector(extents: string): string {
    return /^\d+/.exec(extents)?.[0] ?? '';
  }

  async function headerOnDisk(): Promise<string> {
    return vm().sh(
      `dd if=${origin} bs=512 skip=${firstSector(cow)} count=8 iflag=direct status=none | sha256sum`,
    );
  }

  for (const mode of ['snapshot', 'incremental'] as const) {
    it(`is taken up again after the module was unloaded, in ${mode} mode`, async () => {
      if (mode === 'incremental') await ioctl(vm(), 'inc', 0);
      const before = await info(vm(), 0);
      await unloadAndLoad();
      await announce(mode, '/t/cow1', 9 << 20);
      const announced = await info(vm(), 0);
      assert.deepEqual(announced, {
        ...announced,
        cowSizeBytes: 0,
        seqId: 0,
        uuid: '00000000000000000000000000000000',
        cow: '/t/cow1',
        bdev: origin,
        version: 0,
        nrChangedBlocks: 0,
        cacheSizeBytes: 9 << 20,
      });
      await vm().sh(
        `! test -e ${image} && ! grep -E 'fallocate|seq_id|uuid|changed' /proc/elastio-snap-info`,
      );
      for (const command of [['inc'], ['snap', '/t/cow2']])
        assert.equal(await tryIoctl(vm(), ...command, 0), 'EINVAL');
      assert.equal(await tryIoctl(vm(), 'reconf', 0, 8 << 20), 'ok');
      await mountActive(mode);
      const active = await info(vm(), 0);
      assert.ok(active.nrChangedBlocks >= before.nrChangedBlocks);
      assert.deepEqual(
        { ...active, nrChangedBlocks: 0 },
        { ...before, cacheSizeBytes: 8 << 20, nrChangedBlocks: 0 },
      );
      await checkAll(mode);
    });

    it(`is taken up again after a reboot that unmounted nothing, in ${mode} mode`, async () => {
      if (mode === 'incremental') await ioctl(vm(), 'inc', 0);
      await writeFiles(vm());
      await vm().reboot();
      await loadDriver(vm());
      await vm().sh(`mkdir -p /t && dumpe2fs -h ${origin} 2> /dev/null | grep needs_recovery`);
      await announce(mode);
      // The journal is replayed before anybody can have looked at the COW file.
      await mountActive(mode);
      await checkAll(mode);
    });

    it(`has what was written before it was mounted, in ${mode} mode`, async () => {
      if (mode === 'incremental') await ioctl(vm(), 'inc', 0);
      await vm().sh(
        `sync; ${tests}/imagecheck extents /t/data | awk 'NR == 1 { print $1 / 8 }' > /tmp/block`,
      );
      await vm().sh(
        'dd if=/dev/urandom of=/t/data bs=4k seek=100 count=40 conv=notrunc,fsync status=none',
      );
      await unloadAndLoad();
      await announce(mode);
      // Blocks of a file that had changed before, and others; then the filesystem's own.
      await vm().sh(
        `dd if=/dev/urandom of=${origin} bs=4k seek=$(($(cat /tmp/block) + 90)) count=30 oflag=direct status=none`,
      );
      await vm().sh(`tune2fs -L later ${origin} && e2fsck -fy ${origin} || test $? = 1`);
      await mountActive(mode);
      await checkAll(mode);
    });
  }

  it('is taken up again after a reboot that closed the COW file of a device that lies on it, too', async () => {
    await vm().sh('modprobe loop && losetup /dev/loop0 /t/other');
    await mountExt4(vm(), '/dev/loop0', '/u');
    await ioctl(vm(), 'setup', '/dev/loop0', '/u/cow', 1, 4);
    await vm().sh('cp -r /etc/ssl /u/ && sync');
    await vm().reboot();
    await loadDriver(vm());
    await vm().sh('mkdir -p /t');
    await announce('snapshot');
    await mountActive('snapshot');
    await checkAll('snapshot');
  });

  it('is found by a path with dots in it', async () => {
    await unloadAndLoad();
    await announce('snapshot', '/t/.././t/./cow1');
    await mountActive('snapshot');
    await checkAll('snapshot');
  });

  it('is taken up again with a cache of no section', async () => {
    await unloadAndLoad();
    await announce('snapshot', '/cow1', 1);
    await mountActive('snapshot');
    await checkAll('snapshot');
  });

  it('is active at once on a filesystem that is mounted read-only, but not on a read-only device', async () => {
    await unloadAndLoad();
    await vm().sh(`blockdev --setro ${origin} && mount -o ro ${origin} /t`);
    await announce('snapshot');
    await vm().sh(`umount /t && blockdev --setrw ${origin}`);
    assert.equal((await info(vm(), 0)).state, states.unverifiedSnapshot);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`mount -o ro ${origin} /t`);
    await ioctl(vm(), 'reload-snap', origin, '/cow1', 0);
    assert.equal((await info(vm(), 0)).state, states.snapshot);
    await vm().sh('mount -o remount,rw /t');
    await checkAll('snapshot');
  });

  it('is forgotten by destroy and by unloading, and can be announced again', async () => {
    await unloadAndLoad();
    const before = await headerOnDisk();
    await announce('snapshot');
    await ioctl(vm(), 'destroy', 0);
    await announce('snapshot');
    await vm().sh(`rmmod elastio-snap && ${insmod}`);
    assert.equal(await headerOnDisk(), before);
    await announce('snapshot');
    await mountActive('snapshot');
    await checkAll('snapshot');
  });

  it('is not taken up again when it was forgotten after something had been written', async () => {
    await vm().sh('dd if=/dev/zero of=/t/zeros bs=1M count=1 conv=fsync status=none');
    const zeros = firstSector(await vm().sh(`${tests}/imagecheck extents /t/zeros`));
    await unloadAndLoad();
    await announce('snapshot');
    // The filesystem cannot know of it.
    await vm().sh(
      `dd if=/dev/urandom of=${origin} bs=512 seek=${zeros} count=8 oflag=direct status=none`,
    );
    await ioctl(vm(), 'destroy', 0);
    await announce('snapshot');
    await vm().sh(`mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, -116);
  });

  it('is not taken up again under another device number either', async () => {
    const setup = 'dd if=/dev/urandom of=/l/data bs=1M count=1 conv=fsync status=none';
    await vm().sh(
      `modprobe loop && truncate -s 48M /var/tmp/disk && losetup /dev/loop5 /var/tmp/disk && mkdir -p /l && ${mkfs('ext4', '/dev/loop5', '-b 4096')} && mount /dev/loop5 /l && ${setup}`,
    );
    await ioctl(vm(), 'setup', '/dev/loop5', '/l/cow', 1, 8);
    const data = firstSector(await vm().sh(`${tests}/imagecheck extents /l/data`));
    await vm().sh('umount /l');
    await unloadAndLoad();
    await ioctl(vm(), 'reload-snap', '/dev/loop5', '/cow', 1);
    await vm().sh(
      `dd if=/dev/zero of=/dev/loop5 bs=512 seek=${data} count=8 oflag=direct status=none`,
    );
    await ioctl(vm(), 'destroy', 1);
    await vm().sh('losetup -d /dev/loop5 && losetup /dev/loop6 /var/tmp/disk');
    await ioctl(vm(), 'reload-snap', '/dev/loop6', '/cow', 1);
    await vm().sh('mount /dev/loop6 /l');
    // A kernel that cannot tell whether a loop device was exchanged takes up none of them.
    const tellsExchange = (await vm().run('test -e /sys/block/loop6/diskseq')).status === 0;
    assert.equal((await info(vm(), 1)).error, tellsExchange ? -116 : -19);
    await ioctl(vm(), 'destroy', 1);
    await vm().sh('umount /l && losetup -d /dev/loop6 && rm /var/tmp/disk');
  });

  /** A block of a file on a filesystem, at which it can be written unnoticed by that. */
  async function spareBlock(directory: string): Promise<string> {
    const file = `${directory}/spare`;
    await vm().sh(`dd if=/dev/zero of=${file} bs=1M count=4 conv=fsync status=none`);
    return firstSector(await vm().sh(`${tests}/imagecheck extents ${file}`));
  }

  const writeRaw = (device: string, sector: string, bytes = 4096): string =>
    `dd if=/dev/urandom of=${device} bs=4k seek=$((${sector} * 512)) count=${bytes} iflag=count_bytes oflag=direct,seek_bytes status=none`;

  it('is not taken up again beside another one that has recorded something, but that one is', async () => {
    const spare = await spareBlock('/t');
    await unloadAndLoad();
    await ioctl(vm(), 'reload-snap', origin, '/cow1', 1);
    await vm().sh(writeRaw(origin, spare));
    await announce('snapshot');
    await vm().sh(`mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, -116);
    const { state, error } = await info(vm(), 1);
    assert.deepEqual([state, error], [states.snapshot, 0]);
    await vm().sh(`${tests}/imagecheck same /dev/elastio-snap1 ${copy}`);
    await ioctl(vm(), 'destroy', 1);
  });

  it('is not taken up again beside another one that could not record everything', async () => {
    const spare = await spareBlock('/t');
    await unloadAndLoad();
    await ioctl(vm(), 'reload-snap', origin, '/cow1', 1);
    await vm().sh('echo 1 > /sys/module/elastio_snap/parameters/pending_max_mib');
    await vm().sh(writeRaw(origin, spare, 4 << 20));
    await vm().sh('echo 64 > /sys/module/elastio_snap/parameters/pending_max_mib');
    assert.equal((await info(vm(), 1)).error, -12);
    await announce('snapshot');
    await vm().sh(`mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, -116);
    await ioctl(vm(), 'destroy', 1);
  });

  it('is not taken for another one that had its device number, before it or after it', async () => {
    const dm = '/dev/mapper/number';
    const withNumber = async (disk: string, work: () => Promise<void>): Promise<void> => {
      await vm().sh(
        `modprobe dm-mod && dmsetup create number --major $(awk '$2 == "device-mapper" { print $1 }' /proc/devices) --minor 40 ${linear(disk)} && udevadm settle`,
      );
      await work();
      await vm().sh('udevadm settle && dmsetup remove --retry number');
    };
    const forgetWrite = async (disk: string, path: string, sector: string): Promise<void> =>
      withNumber(disk, async () => {
        await ioctl(vm(), 'reload-snap', dm, path, 1);
        await vm().sh(writeRaw(dm, sector));
        await ioctl(vm(), 'destroy', 1);
      });
    const spare = await spareBlock('/t');
    await mountExt4(vm(), copy, '/b', '-b 4096');
    const spareOfCopy = await spareBlock('/b');
    await ioctl(vm(), 'setup', copy, '/b/cow', 1, 8);
    await vm().sh('umount /b');
    await unloadAndLoad();

    await forgetWrite(origin, '/cow1', spare);
    await forgetWrite(copy, '/cow', spareOfCopy);
    await ioctl(vm(), 'reload-snap', copy, '/cow', 1);
    await vm().sh(`mount ${copy} /b`);
    assert.equal((await info(vm(), 1)).error, -116);
    await ioctl(vm(), 'destroy', 1);
    await vm().sh('umount /b');

    await withNumber(copy, async () => {
      await vm().sh(`mount ${dm} /b`);
      await ioctl(vm(), 'setup', dm, '/b/new', 1, 8);
      await ioctl(vm(), 'destroy', 1);
      await vm().sh('umount /b');
    });
    await announce('snapshot');
    await vm().sh(`mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, -116);
  });

  it('fails when a new snapshot is set up beside it', async () => {
    await unloadAndLoad();
    await announce('snapshot');
    // Without recovery its filesystem is not taken for there.
    await vm().sh(`mount -o ro,noload ${origin} /t && mount -o remount,rw /t`);
    assert.equal((await info(vm(), 0)).state, states.unverifiedSnapshot);
    await ioctl(vm(), 'setup', origin, '/t/cow2', 1, 8);
    assert.equal((await info(vm(), 0)).error, -116);
    await ioctl(vm(), 'destroy', 1);
  });

  it('is refused on a filesystem that is mounted for writing, and where nothing can be tracked', async () => {
    const tried = (...words: string[]): Promise<string> => tryIoctl(vm(), ...words);
    assert.equal(await tried('reload-inc', origin, '/cow1', '0'), 'EBUSY');
    assert.equal(await tried('reload-inc', origin, '/cow1', '1'), 'EINVAL');
    assert.equal(await tried('reload-inc', '/dev/missing', '/cow1', '1'), 'ENOENT');
    assert.equal(await tried('reload-snap', '/t', '/cow1', '1'), 'ENOTBLK');
    assert.equal(await tried('reload-snap', '/t/data', '/cow1', '1'), 'ENOTBLK');
    assert.equal(await tried('info', '1'), 'ENOENT');
  });

  // What happens between the unmount and the announcement, what after it, and the error that follows.
  const refusals: readonly [string, Mode, string, string, number][] = [
    ['the filesystem was mounted where nobody looked', 'incremental', 'M', '', -116],
    ['the filesystem was checked where nobody looked', 'incremental', 'e2fsck -fy O', '', -116],
    [
      'the COW file is not there',
      'incremental',
      '',
      "debugfs -w -R 'unlink /cow1' O 2> /dev/null",
      -2,
    ],
    ['another file is in its place', 'snapshot', '', 'SWAP', -22],
    ['it is of the other mode', 'incremental', '', '', -22],
    [
      'its header is damaged',
      'snapshot',
      '',
      'printf x | dd of=O bs=1 seek=$((CSECTOR * 512 + 100)) conv=notrunc status=none',
      -22,
    ],
    ['its blocks have moved', 'snapshot', '', 'COPYHEADER && SWAP', -5],
    [
      'somebody wrote to its blocks',
      'snapshot',
      '',
      'dd if=/dev/zero of=O bs=512 seek=$((CSECTOR + 4096)) count=8 oflag=direct status=none',
      -5,
    ],
    ['it has a hole', 'snapshot', '', "debugfs -w -R 'punch /cow1 2048 2048' O 2> /dev/null", -5],
    [
      'it was cut',
      'snapshot',
      '',
      "debugfs -w -R 'set_inode_field /cow1 size 8388608' O 2> /dev/null",
      -22,
    ],
  ];
  for (const [what, mode, before, after, code] of refusals) {
    it(`fails, and leaves the file alone, when ${what}`, async () => {
      const script = (text: string): string =>
        text
          .replace('M', `mount ${origin} /t && umount /t`)
          .replace(
            'COPYHEADER',
            `dd if=${origin} of=${origin} bs=512 skip=$((CSECTOR)) seek=$((OSECTOR)) count=8 iflag=direct oflag=direct status=none`,
          )
          .replace(
            'SWAP',
            `{ debugfs -w -R 'unlink /cow1' ${origin}; debugfs -w -R 'ln /other /cow1' ${origin}; } 2> /dev/null`,
          )
          .replaceAll('CSECTOR', firstSector(cow))
          .replaceAll('OSECTOR', firstSector(other))
          .replaceAll(/\bO\b/g, origin);
      if (mode === 'incremental' && code !== -22) await ioctl(vm(), 'inc', 0);
      await unloadAndLoad();
      // e2fsck says 1 when it has changed something.
      await vm().sh(`{ true; ${script(before)}
} || test $? = 1`);
      await announce(mode);
      await vm().sh(`true; ${script(after)}`);
      const header = await headerOnDisk();
      await vm().sh(`mount ${origin} /t`);
      const failed = await info(vm(), 0);
      assert.deepEqual([failed.state, failed.error], [modes[mode].unverified, code]);
      assert.equal(failed.cow, '/cow1');
      await vm().sh('echo still works > /t/file && sync');
      assert.equal(await headerOnDisk(), header);
      assert.equal(await tryIoctl(vm(), 'reconf', 0, 1), 'EINVAL');
    });
  }

  it('fails when the device has another size', async () => {
    const sized = '/dev/mapper/sized';
    const attach = (mib: number): string =>
      `dmsetup create sized --table "0 ${mib * 2048} linear ${copy} 0"`;
    await vm().sh(
      `modprobe dm-mod && umount /t && rmmod elastio-snap && ${insmod} && ${attach(52)}`,
    );
    await mountExt4(vm(), sized, '/t', '-b 4096');
    await ioctl(vm(), 'setup', sized, '/t/cow1', 0, 8);
    await unloadAndLoad();
    await vm().sh(`udevadm settle; dmsetup remove sized && ${attach(56)}`);
    const before = await vm().sh(`sha256sum ${copy}`);
    await ioctl(vm(), 'reload-snap', sized, '/cow1', 0);
    await vm().sh(`mount -o ro ${sized} /t`);
    const failed = await info(vm(), 0);
    assert.deepEqual([failed.state, failed.error], [states.unverifiedSnapshot, -22]);
    await vm().sh('umount /t');
    assert.equal(await vm().sh(`sha256sum ${copy}`), before);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('udevadm settle; dmsetup remove sized');
  });

  for (const call of ['destroy', 'inc'] as const) {
    it(`fails after ${call} while the machine went down, should its COW file come back with a power failure`, async () => {
      const spare = await spareBlock('/t');
      await vm().sh(
        `mount -o remount,commit=600 /t && sync && insmod ${tests}/elio-test.ko hold_reboot=1
       { until dmesg | grep -q 'the machine goes down'; do sleep 0.1; done; ${tests}/ioctl-tool ${call} 0 && ${writeRaw(origin, spare)}; echo 0 > /sys/module/elio_test/parameters/hold_reboot; } < /dev/null > /dev/null 2>&1 &`,
      );
      await vm().reboot();
      await loadDriver(vm());
      await announce('snapshot');
      await vm().sh(`mkdir -p /t && mount ${origin} /t && test -e /t/cow1`);
      assert.equal((await info(vm(), 0)).error, -22);
    });
  }

  it('fails when the power failed, since then its COW file was not closed', async () => {
    await ioctl(vm(), 'inc', 0);
    await vm().sh('sync');
    await vm().reboot({ powerCut: true });
    await loadDriver(vm());
    await announce('incremental');
    await vm().sh(`mkdir -p /t && mount ${origin} /t`);
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [states.unverifiedIncremental, -22]);
  });
});

/** The driver looks for it by itself: where it may be, and what tells where. */
const journals = [
  { name: 'extents', type: 'ext4', options: '-b 4096' },
  { name: 'ext3', type: 'ext3', options: '-b 2048' },
  { name: 'short', type: 'ext4', options: '-b 1024 -O ^64bit -I 128' },
  // In more pieces than an inode has room for.
  { name: 'pieces', type: 'ext4', options: '-b 1024 -O ^flex_bg -J size=40' },
] as const;

describe('a journal that is left to be replayed', () => {
  const vm = useVm({
    name: 'journal',
    cpus: 1,
    disks: journals.map(({ name }) => ({ name, sizeMib: 96 })),
  });

  async function each(
    action: (device: string, directory: string, minor: number) => Promise<unknown>,
  ): Promise<void> {
    for (const [minor, { name }] of journals.entries())
      await action(vm().disk(name), `/t/${name}`, minor);
  }

  beforeEach(async () => {
    await loadDriver(vm());
    await each(async (device, directory, minor) => {
      const { type = 'ext4', options = '' } = journals[minor] ?? {};
      await vm().sh(
        `${mkfs(type, device, options)} && mkdir -p ${directory} && mount ${device} ${directory}`,
      );
      await ioctl(vm(), 'setup', device, `${directory}/cow`, minor, 8);
      await vm().sh(`cp -r /etc/lvm ${directory}/; sync`);
    });
    await vm().reboot();
    await each((device) =>
      vm().sh(`dumpe2fs -h ${device} 2> /dev/null | grep 'features.* needs_recovery'`),
    );
  });
  afterEach(async () => {
    await each((_, directory, minor) =>
      vm().run(`${tests}/ioctl-tool destroy ${minor}; umount ${directory}`),
    );
    await vm().run('rmmod elastio-snap');
  });

  async function announceAndMount(expected: readonly number[]): Promise<void> {
    await loadDriver(vm());
    await each(async (device, directory, minor) => {
      await ioctl(vm(), 'reload-snap', device, '/cow', minor);
      await vm().sh(`mkdir -p ${directory} && mount ${device} ${directory}`);
      const { state, error } = await info(vm(), minor);
      assert.deepEqual([state, error], expected, device);
    });
  }

  it('is replayed by the mount that takes the tracker up again', async () => {
    await announceAndMount([states.snapshot, 0]);
  });

  it('fails the tracker if it was replayed before, by a machine that failed before the filesystem told of it', async () => {
    await each((device, directory) =>
      vm().sh(
        `mkdir -p ${directory} && dd if=${device} of=/tmp/super bs=1k skip=1 count=1 status=none && mount ${device} ${directory} && umount ${directory} &&
         dd if=/tmp/super of=${device} bs=1k seek=1 conv=notrunc,fsync status=none`,
      ),
    );
    await announceAndMount([states.unverifiedSnapshot, -116]);
  });
});
