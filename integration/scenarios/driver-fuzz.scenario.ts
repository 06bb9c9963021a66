// SPDX-License-Identifier: Apache-2.0
// Input that nobody would send: calls (integration/guest/fuzz.c) and COW files (integration/guest/damage.c). ELIO_SEED chooses
// others, ELIO_LENGTH=long makes a million calls and 500 files.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import {
  copyImage,
  info,
  ioctl,
  loadDriver,
  mountExt4,
  states,
  tests,
  tryIoctl,
  writeFiles,
} from './driver.js';

const image = '/dev/elastio-snap0';
const seed = Number(process.env['ELIO_SEED'] ?? 1);
const calls = rounds(20_000, 1_000_000);
const files = rounds(12, 500);
/** Header and index of a COW file of the origin, in bytes. */
const indexBytes = 4096 + ((64 << 20) / 4096) * 8;

describe('the driver and input that nobody would send', () => {
  const vm = useVm({
    name: 'fuzz',
    leakSearch: true,
    disks: [
      { name: 'origin', sizeMib: 64 },
      { name: 'other', sizeMib: 64 },
    ],
  });
  let origin = '';
  let other = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
    other = vm().disk('other');
  });
  beforeEach(async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
  });

  it(`answers ${String(calls)} calls with errors that are promised, seed ${String(seed)}`, async function () {
    this.timeout(4 * 3600 * 1000);
    await vm().sh('cp -r /etc/lvm /t/kept && sync');
    // Filesystems come and go meanwhile, or nothing that is announced would ever become active.
    const output = await vm().sh(
      `touch /tmp/go; while test -e /tmp/go; do sleep 0.3; umount /t && sleep 0.2 && mount ${origin} /t; done > /dev/null 2>&1 < /dev/null &
       ${tests}/fuzz ${calls} ${seed} ${origin} /t ${other}; status=$?; rm /tmp/go; wait; exit $status`,
      { timeoutMs: 4 * 3600 * 1000 },
    );
    const counts = JSON.parse(output) as Record<string, number>;
    for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `${what}: ${output}`);

    // It still does what it is for, and leaves nothing behind.
    for (const minor of [0, 1, 2]) await tryIoctl(vm(), 'destroy', minor);
    await vm().sh(`mountpoint -q /t || mount ${origin} /t; rm -rf /t/cow*`);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 8);
    await copyImage(vm(), other);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(
      `diff -r /etc/lvm /t/kept && test "$(ls -A /t)" = "$(printf 'kept\\nlost+found')" && umount /t && e2fsck -fn ${origin} && e2fsck -fn ${other}`,
    );
    assert.equal(await vm().sh('ls /dev/elastio-snap*'), '/dev/elastio-snap-ctl\n');
    await vm().sh('rmmod elastio-snap');
    await loadDriver(vm());
  });

  it(`takes up or refuses each of ${String(files)} damaged COW files, seed ${String(seed)}`, async function () {
    this.timeout(2 * 3600 * 1000);
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=8 status=none');
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, 16);
    await writeFiles(vm());
    const [first] = (await vm().sh(`sync; ${tests}/imagecheck extents /t/cow1`)).split(' ');
    await vm().sh('umount /t && rmmod elastio-snap');
    await loadDriver(vm());
    const region = `bs=512 count=${String(indexBytes / 512)} conv=notrunc status=none`;
    await vm().sh(`dd if=${origin} of=/tmp/closed skip=${first} iflag=direct ${region}`);

    let taken = 0;
    for (let file = 0; file < files; file++) {
      const number = seed * 100_000 + file;
      await vm().sh(
        `cp /tmp/closed /tmp/damaged && ${tests}/damage ${number} /tmp/damaged && dd if=/tmp/damaged of=${origin} seek=${first} oflag=direct ${region} && ${tests}/ioctl-tool reload-snap ${origin} /cow1 0 && mount -o ro ${origin} /t`,
      );
      const { state, error } = await info(vm(), 0);
      if (error === 0) {
        taken++;
        assert.equal(state, states.snapshot);
        // What such a file says may be a lie; reading it does no harm.
        await vm().run(`dd if=${image} of=/dev/null bs=1M iflag=direct,nonblock status=none`);
      } else {
        assert.ok(
          [-22, -5, -27, -116].includes(error),
          `damage ${String(number)}: ${String(error)}`,
        );
      }
      // Who forgets one that has failed does not take up another of that device.
      await vm().sh('umount /t && udevadm settle && rmmod elastio-snap');
      await loadDriver(vm());
    }
    assert.ok(taken > 0 && taken < files, `${String(taken)} of ${String(files)} were taken up`);
    await vm().sh(
      `dd if=/tmp/closed of=${origin} seek=${first} oflag=direct ${region} && e2fsck -fn ${origin}`,
    );
    await ioctl(vm(), 'reload-snap', origin, '/cow1', 0);
    await vm().sh(`mount ${origin} /t`);
    assert.equal((await info(vm(), 0)).error, 0);
    await ioctl(vm(), 'destroy', 0);
  });
});
