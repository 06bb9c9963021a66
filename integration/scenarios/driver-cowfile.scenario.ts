// SPDX-License-Identifier: Apache-2.0
// The COW file, in use and after: nobody can move or change its blocks unnoticed, and the old one tells update-img what changed.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import {
  checkImage,
  copyImage,
  info,
  insmod,
  ioctl,
  loadDriver,
  mountExt4,
  mountXfs,
  tests,
  tryIoctl,
} from './driver.js';

const image = '/dev/elastio-snap0';

describe('the COW file', () => {
  const vm = useVm({
    name: 'cowfile',
    cpus: 1,
    memoryMib: 1536,
    disks: [
      { name: 'origin', sizeMib: 128 },
      { name: 'copy', sizeMib: 128 },
    ],
  });
  let origin = '';
  let copy = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
    copy = vm().disk('copy');
  });
  afterEach(async () => {
    await vm().run(
      `while umount /t 2> /dev/null; do :; done; ${tests}/ioctl-tool destroy 0; wipefs -qa ${origin}`,
    );
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
  });

  /** Half of many files are gone, so that a large file has many extents; and writes go on being saved. */
  const fragment = `mkdir /t/holes && ${tests}/fragment make /t/holes`;
  let overwritten = 0;

  async function overwrite(): Promise<void> {
    overwritten += 1;
    await vm().sh(`${tests}/fragment overwrite /t/holes ${overwritten}`);
  }

  const attacks = {
    ext4: [
      ['a defragmenter', 'e4defrag /t/cow'],
      ['its attributes are changed', 'chattr +a /t/cow; chattr -a /t/cow; chattr =e /t/cow'],
      ['it is deleted then', 'rm -f /t/cow'],
      ['it is cut', 'truncate -s 4096 /t/cow'],
      ['a hole is punched', 'fallocate -p -o 8M -l 1M /t/cow'],
      ['it is written', 'dd if=/dev/zero of=/t/cow bs=1M count=1 conv=notrunc'],
      ['it is renamed', 'mv /t/cow /t/moved'],
      ['something takes its name', 'touch /t/other && mv -f /t/other /t/cow'],
      ['it is swapped to', 'swapon /t/cow'],
    ],
    xfs: [
      ['a defragmenter', 'xfs_fsr -v /t/cow'],
      ['it is shared', 'cp --reflink=always /t/cow /t/shared'],
      ['it becomes shared', 'xfs_io -c "reflink /t/holes/2 0 0 65536" /t/cow'],
      ['its attributes are changed', 'chattr +a /t/cow; chattr -a /t/cow'],
      ['it is cut', 'truncate -s 4096 /t/cow'],
      ['a hole is punched', 'fallocate -p -o 8M -l 1M /t/cow'],
      ['it is deleted', 'rm -f /t/cow'],
      ['it is renamed', 'mv /t/cow /t/moved'],
    ],
  } as const;
  for (const type of ['ext4', 'xfs'] as const) {
    it(`stays where it is, and the image with it, whatever is tried on ${type}`, async () => {
      if (type === 'ext4') await mountExt4(vm(), origin, '/t', '-b 4096');
      else await mountXfs(vm(), origin, '/t');
      await vm().sh(fragment);
      await ioctl(vm(), 'setup', origin, '/t/cow', 0, 30);
      const extents = await vm().sh(`${tests}/imagecheck extents /t/cow`);
      assert.ok(extents.split('\n').length > 10, extents);
      await copyImage(vm(), copy);
      await overwrite();
      for (const [what, command] of attacks[type]) {
        await vm().run(command);
        assert.equal(await vm().sh(`sync; ${tests}/imagecheck extents /t/cow`), extents, what);
      }
      await overwrite();
      await checkImage(vm(), copy);
      assert.equal((await info(vm(), 0)).error, 0);
    });
  }

  it('fails its snapshot when somebody writes to its blocks past the filesystem, and the origin goes on', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
    const [, first] = /^(\d+) /.exec(await vm().sh(`${tests}/imagecheck extents /t/cow`)) ?? [];
    await vm().sh(
      `dd if=/dev/zero of=${origin} bs=512 seek=$((${first ?? ''} + 8192)) count=8 oflag=direct conv=notrunc status=none`,
    );
    assert.equal((await info(vm(), 0)).error, -5);
    await vm().sh('dmesg | tail -5 | grep "elastio-snap: .*somebody writes to the COW file"');
    const read = await vm().run(`dd if=${image} of=/dev/null bs=4k count=1 iflag=direct`);
    assert.match(read.stderr, /Input\/output error/);
    await vm().sh(`umount /t && e2fsck -fn ${origin}`);
  });

  it('is written across the places where a mirror splits what another layer of its own has split already', async () => {
    // dm-raid clones a bio for md, and md sends what lies behind each 64 MiB through dm once more. One member: nothing to be synced.
    const mirror = '/dev/mapper/mirror';
    await vm().sh(
      `modprobe dm-raid && dmsetup create mirror --table "0 262144 raid raid1 4 0 nosync region_size 262144 2 - ${origin} - -" && udevadm settle`,
    );
    await mountExt4(vm(), mirror, '/t', '-b 4096');
    // The filesystem has no choice: all is full, but 24 MiB for the data, then 32 MiB for the COW file that reach over 64 MiB.
    await vm().sh(
      `free() { fallocate -p -o $(${tests}/imagecheck extents /t/space | awk -v first=$(($1 * 2048)) '$1 <= first && first < $1 + $2 { print (at + first - $1) / 2 } { at += $2 }')K -l $2M /t/space && sync; }
       fallocate -l $((($(stat -f -c %a /t) - 128) * 4))K /t/space && sync && free 96 24 &&
       dd if=/dev/urandom of=/t/data bs=1M count=24 status=none && sync && free 56 32`,
    );
    await ioctl(vm(), 'setup', mirror, '/t/cow', 0, 30);
    await copyImage(vm(), copy);
    await vm().sh(
      'dd if=/dev/urandom of=/t/data bs=1M count=24 oflag=direct conv=notrunc status=none',
    );
    await checkImage(vm(), copy);
    assert.equal((await info(vm(), 0)).error, 0);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t && udevadm settle && dmsetup remove mirror');
  });

  it('takes up its tracker again on XFS, after unloading and a reboot, and not after a mount that nobody saw', async () => {
    await mountXfs(vm(), origin, '/t');
    await vm().sh(fragment);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 30);
    await copyImage(vm(), copy);
    await overwrite();
    await vm().sh(`umount /t && rmmod elastio-snap && ${insmod}`);
    await ioctl(vm(), 'reload-snap', origin, '/cow', 0);
    await vm().sh(`mount ${origin} /t`);
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [3, 0]);
    await checkImage(vm(), copy);
    await overwrite();
    await vm().sh('touch /t/holes/later; sync');

    await vm().reboot();
    await loadDriver(vm());
    await ioctl(vm(), 'reload-snap', origin, '/cow', 0);
    await vm().sh(`mkdir -p /t && mount ${origin} /t && dmesg | grep 'XFS.*Starting recovery'`);
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [3, 0]);
    await checkImage(vm(), copy);

    await vm().sh('umount /t && rmmod elastio-snap');
    await vm().sh(`mount ${origin} /t && touch /t/unseen && umount /t`);
    await loadDriver(vm());
    await ioctl(vm(), 'reload-snap', origin, '/cow', 0);
    await vm().sh(`mount ${origin} /t`);
    assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [5, -116]);
  });

  it('is not taken up again where the power failed before the log of XFS had told of a mount that nobody saw', async () => {
    await mountXfs(vm(), origin, '/t');
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=4 oflag=direct status=none');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
    await ioctl(vm(), 'inc', 0);
    await vm().sh('umount /t && rmmod elastio-snap');
    await vm().sh(
      `mount ${origin} /t && dd if=/dev/urandom of=/t/data bs=1M count=4 oflag=direct conv=notrunc status=none`,
    );
    await vm().reboot({ powerCut: true });
    await loadDriver(vm());
    await ioctl(vm(), 'reload-inc', origin, '/cow', 0);
    await vm().sh(`modprobe xfs; mkdir -p /t && mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, -116);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t');
  });

  it('is not taken up again where XFS replayed its log in a mount that nobody saw', async () => {
    await vm().sh('modprobe xfs');
    await mountXfs(vm(), origin, '/t');
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, 16);
    await ioctl(vm(), 'inc', 0);
    await vm().sh('for i in $(seq 200); do echo $i > /t/file$i; done; sync');
    // The log has it, and its place has it not.
    await vm().reboot();
    await vm().sh(`modprobe xfs; mkdir -p /t && mount -o ro ${origin} /t`);
    assert.match(await vm().sh('dmesg'), /XFS.*Ending recovery/);
    await loadDriver(vm());
    await ioctl(vm(), 'reload-inc', origin, '/cow1', 0);
    // XFS may have written something after the COW file was closed for the reboot: then it was in use to the end.
    const { error } = await info(vm(), 0);
    assert.ok([-116, -22].includes(error), String(error));
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t');
  });

  it('is not taken up again where XFS was repaired while nobody saw it, be it for the second time', async () => {
    await vm().sh('modprobe xfs');
    await mountXfs(vm(), origin, '/t');
    for (const cow of ['/cow1', '/cow2']) {
      await ioctl(vm(), 'setup', origin, `/t${cow}`, 0, 16);
      await ioctl(vm(), 'inc', 0);
      for (const [work, expected] of [
        ['', 0],
        [`xfs_repair ${origin}`, -116],
      ] as const) {
        await vm().sh(
          `for i in $(seq 20); do echo $RANDOM > /t/file$i; done; umount /t; rmmod elastio-snap; ${work}`,
        );
        await loadDriver(vm());
        await ioctl(vm(), 'reload-inc', origin, cow, 0);
        await vm().sh(`mount ${origin} /t`);
        assert.equal((await info(vm(), 0)).error, expected, work);
      }
      await ioctl(vm(), 'destroy', 0);
    }
    await vm().sh('umount /t');
  });

  // On ext2 and ext3 what is saved could be read in it.
  it('is private where a file that was there is taken, and is not taken from who reads it', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh('install -m 644 -o nobody -g nogroup /dev/null /t/cow');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
    assert.equal(await vm().sh("stat -c '%a %u %g' /t/cow"), '0 0 0\n');
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(
      'install -m 644 -o nobody -g nogroup /dev/null /t/cow && ls -l /t/cow > /tmp/before',
    );
    assert.equal(
      await vm().sh(
        `exec 9< /t/cow; ${tests}/ioctl-tool setup ${origin} /t/cow 0 16; ls -l /t/cow | cmp - /tmp/before`,
      ),
      'EBUSY\n',
    );
    await vm().sh('dmesg | tail -2 | grep "/t/cow cannot be used: somebody has it open"');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
  });

  it('is not made while its filesystem is frozen, and nothing waits for that', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh('fsfreeze -f /t');
    assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/cow', 0, 16), 'EBUSY');
    await vm().sh('fsfreeze -u /t && ! ls /t/cow 2> /dev/null');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
    await ioctl(vm(), 'inc', 0);
    await vm().sh('fsfreeze -f /t');
    assert.equal(await tryIoctl(vm(), 'snap', '/t/cow2', 0, 16), 'EBUSY');
    await vm().sh('fsfreeze -u /t && ! ls /t/cow2 2> /dev/null');
    await ioctl(vm(), 'snap', '/t/cow2', 0, 16);
    await vm().sh(`umount /t && e2fsck -fn ${origin}`);
  });

  it('leaves its filesystem and its device as they were when somebody thaws them in the middle of it', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    const outcomes = await vm().sh(
      `touch /tmp/thaw; for i in 1 2; do (while [ -e /tmp/thaw ]; do fsfreeze -u /t 2> /dev/null; done) & done
       for i in $(seq 10); do ${tests}/ioctl-tool setup ${origin} /t/cow 0 16; ${tests}/ioctl-tool destroy 0 > /dev/null; done
       rm /tmp/thaw; wait; udevadm settle`,
    );
    for (const outcome of outcomes.trim().split('\n')) assert.match(outcome, /^(ok|EBUSY)$/);
    await vm().sh(`! ls /t/cow 2> /dev/null && umount /t && mount ${origin} /t`);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 16);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(`umount /t && e2fsck -fn ${origin}`);
  });

  it('leaves no space in use where it may not be deleted after a set-up that failed, and the log names it', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    const free = 'sync; stat -f -c %f /t';
    await vm().sh('mkdir /t/log && chattr +a /t/log');
    const before = Number(await vm().sh(free));
    assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/log/cow', 0, 200), 'ENOSPC');
    assert.equal(await vm().sh('stat -c "%s %b" /t/log/cow'), '0 0\n');
    assert.equal(Number(await vm().sh(free)), before);
    await vm().sh('dmesg | grep "COW file /t/log/cow could not be deleted (-1)"');
    await vm().sh('chattr -a /t/log && rm /t/log/cow');
  });

  it('is not made where its path is too long to be told, and leaves nothing', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh(
      `cd /t && for i in $(seq 20); do mkdir $(printf 'd%.0s' $(seq 250)) && cd d*; done && { ${tests}/ioctl-tool setup ${origin} cow 0 16 || true; } && ! ls cow 2> /dev/null`,
    );
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
    await vm().sh('umount /t');
  });

  it('brings an image up to date with update-img, round after round', async () => {
    const count = rounds(3, 30);
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh(fragment);
    await ioctl(vm(), 'setup', origin, '/t/cow0', 0, 16);
    const lists: string[] = [];
    const list = async (round: number): Promise<void> => {
      lists.push(`/tmp/list${round}`);
      await vm().sh(`${tests}/imagecheck extents /t/cow${round} > /tmp/list${round}`);
    };
    await list(0);
    await copyImage(vm(), copy);
    for (let round = 1; round <= count; round += 1) {
      await vm().sh(
        `rm -rf /t/holes/*[${round % 10}] /t/etc; cp -r /etc /t/etc; head -c 2M /dev/urandom > /t/new${round % 5}; sync`,
      );
      await ioctl(vm(), 'inc', 0);
      await overwrite();
      await ioctl(vm(), 'snap', `/t/cow${round}`, 0, 16);
      await list(round);
      const said = await vm().sh(`update-img ${image} /t/cow${round - 1} ${copy}`);
      assert.match(said, / 0 errors/);
      await vm().sh(`rm /t/cow${round - 1}`);
      // An image hides the COW file of its own time, whose blocks nobody wrote when they are free again.
      await vm().sh(`${tests}/imagecheck same ${copy} ${image} ${lists.join(' ')}`);
    }
    // What those blocks hold as files is the same, too.
    await vm().sh(
      `e2fsck -fn ${copy} && mkdir -p /a /b && mount -o ro ${copy} /a && mount -o ro ${image} /b && diff -r --no-dereference -x 'cow*' /a /b; status=$?; umount /a /b; exit $status`,
    );
  });
});
