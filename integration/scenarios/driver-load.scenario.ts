// SPDX-License-Identifier: Apache-2.0
// Filesystems under load: everything that can be done with a file (integration/guest/fsx.c, which knows what must be in it), and
// what stress-ng makes of files and directories, while snapshots follow each other: each image is a sound filesystem.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { copyImage, info, ioctl, loadDriver, mkfs, tests } from './driver.js';

const seed = Number(process.env['ELIO_SEED'] ?? 1);
const snapshots = rounds(2, 40);
const secondsEach = 4;
const seconds = snapshots * secondsEach * 2;

const filesystems = [
  { type: 'ext4', mount: 'mount', fsck: 'e2fsck -fn' },
  { type: 'xfs', mount: 'mount -o nouuid', fsck: 'xfs_repair -n' },
];

describe('a filesystem under load', () => {
  const vm = useVm({
    name: 'load',
    disks: [
      { name: 'origin', sizeMib: 160 },
      { name: 'copy', sizeMib: 160 },
    ],
  });
  let origin = '';
  let copy = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
    copy = vm().disk('copy');
  });

  afterEach(async function () {
    if (this.currentTest?.state !== 'passed')
      await vm().run(
        `pkill fsx; pkill stress-ng; sleep 1; ${tests}/ioctl-tool destroy 0; umount /t`,
      );
  });

  for (const { type, mount, fsck } of filesystems) {
    it(`has sound images, one after the other, and loses nothing: ${type}`, async function () {
      this.timeout((seconds + 600) * 1000);
      await vm().sh(
        `${mkfs(type, origin)} && mkdir -p /t && mount ${origin} /t && mkdir -p /t/load`,
      );
      const loads = {
        fsx1: `${tests}/fsx /t/fsx1 ${seconds} ${seed * 2}`,
        fsx2: `${tests}/fsx /t/fsx2 ${seconds} ${seed * 2 + 1}`,
        'stress-ng': `stress-ng --temp-path /t/load --timeout ${seconds} --seed ${seed} --dir 1 --dir-dirs 64 --rename 1 --link 1 --symlink 1 --hdd 1 --hdd-bytes 4M --fallocate 1 --fallocate-bytes 4M --xattr 1 --seek 1 --seek-size 2M`,
      };
      for (const [name, command] of Object.entries(loads))
        await vm().sh(
          `rm -f /tmp/${name}.*; { ${command}; echo $? > /tmp/${name}.status; } < /dev/null > /tmp/${name}.log 2>&1 &`,
        );
      await ioctl(vm(), 'setup', origin, '/t/cow0', 0, 64);
      for (let n = 1; n <= snapshots; n++) {
        await vm().sh(`sleep ${secondsEach}`);
        await copyImage(vm(), copy);
        // Files that were deleted and still open at the instant go when their filesystem is mounted for writing.
        await vm().sh(
          `mkdir -p /image && ${mount} ${copy} /image && ls -R /image > /dev/null && umount /image && ${fsck} ${copy}`,
          { timeoutMs: 300_000 },
        );
        const { error, nrChangedBlocks } = await info(vm(), 0);
        assert.equal(error, 0);
        assert.ok(nrChangedBlocks > 0);
        await ioctl(vm(), 'inc', 0);
        await ioctl(vm(), 'snap', `/t/cow${String(n)}`, 0, 64);
        await vm().sh(`rm /t/cow${String(n - 1)}`);
      }
      for (const name of Object.keys(loads)) {
        await vm().sh(`until test -s /tmp/${name}.status; do sleep 1; done`, {
          timeoutMs: (seconds + 300) * 1000,
        });
        const status = (await vm().sh(`cat /tmp/${name}.status`)).trim();
        assert.equal(status, '0', await vm().sh(`cat /tmp/${name}.log`));
      }
      await ioctl(vm(), 'destroy', 0);
      await vm().sh(`umount /t && ${fsck} ${origin}`);
    });
  }
});
