// SPDX-License-Identifier: Apache-2.0
// What happens at the limits: a full COW file, a full filesystem.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import {
  destroyAndCheckExt4,
  info,
  ioctl,
  loadDriver,
  mountExt4,
  tests,
  tryIoctl,
} from './driver.js';

describe('limits of a snapshot', () => {
  const vm = useVm({
    name: 'limits',
    leakSearch: true,
    disks: [
      { name: 'origin', sizeMib: 64 },
      { name: 'small', sizeMib: 16 },
    ],
  });
  let origin = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
  });
  afterEach(async () => {
    await vm().run(`for n in 0 1 2; do ${tests}/ioctl-tool destroy $n; done; umount /t; umount /s`);
  });

  /** Overwrites more than the COW file holds; the origin has to take it all. */
  async function overflow(): Promise<void> {
    await vm().sh(
      `for n in 1 2; do
         dd if=/dev/urandom of=/tmp/new bs=1M count=8 status=none
         dd if=/tmp/new of=/t/data bs=64k oflag=direct conv=notrunc status=none
         cmp /tmp/new /t/data
       done; sync; echo 3 > /proc/sys/vm/drop_caches; cmp /tmp/new /t/data`,
    );
  }

  it('that overflows fails with -27, and the origin takes every write', async () => {
    await mountExt4(vm(), origin, '/t');
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=8 oflag=direct status=none && sync');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 3);
    await overflow();
    const failed = await info(vm(), 0);
    assert.equal(failed.error, -27);
    assert.equal(failed.state, 3);
    const data = (failed.cowSizeBytes - 4096 - 4 * 32768) / 4096;
    // Every block of the file was used, one more did not fit, and a few changed while the filesystem was being frozen.
    const rest = failed.nrChangedBlocks - (data + 1);
    assert.ok(rest >= 0 && rest < 16, String(failed.nrChangedBlocks));
    const read = await vm().run('dd if=/dev/elastio-snap0 of=/dev/null bs=4k count=1 iflag=direct');
    assert.match(read.stderr, /Input\/output error/);
    assert.equal(await tryIoctl(vm(), 'inc', 0), 'EINVAL');
    assert.equal(await tryIoctl(vm(), 'snap', '/t/cow2', 0), 'EINVAL');
    assert.equal(await tryIoctl(vm(), 'reconf', 0, 0), 'EINVAL');
    assert.equal((await info(vm(), 0)).state, 3);
    await vm().sh('! test -e /t/cow && ! test -e /t/cow2');
    await destroyAndCheckExt4(vm(), 0, origin);
  });

  it('that overflows reads as zeros when errors are ignored, and the failure still shows', async () => {
    await mountExt4(vm(), origin, '/t');
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=8 oflag=direct status=none && sync');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 3, 0, 1);
    await overflow();
    assert.equal((await info(vm(), 0)).error, -27);
    await vm().sh(
      'dd if=/dev/elastio-snap0 bs=1M count=8 iflag=direct status=none | cmp -n 8388608 - /dev/zero',
    );
    await vm().sh('dmesg | grep "elastio-snap: snapshot 0 .*failed (-27)"');
    await destroyAndCheckExt4(vm(), 0, origin);
  });

  it('that overflows while it goes incremental ends there with the code', async () => {
    await mountExt4(vm(), origin, '/t');
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=8 oflag=direct status=none && sync');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 3);
    await vm().sh(
      'head -c 512K /dev/urandom | dd of=/t/data conv=notrunc oflag=direct bs=64k iflag=fullblock status=none',
    );
    await ioctl(vm(), 'inc', 0);
    await overflow();
    const after = await info(vm(), 0);
    assert.deepEqual([after.state, after.error], [2, 0], 'an incremental has no limit');
    assert.ok(after.nrChangedBlocks >= 2048);
    await destroyAndCheckExt4(vm(), 0, origin);
  });

  it('gives its space back on going incremental, and what takes that space stays intact', async () => {
    const small = vm().disk('small');
    await mountExt4(vm(), small, '/s');
    const count = rounds(24, 1000, 8);
    await ioctl(vm(), 'setup', small, '/s/cow0', 1, 4);
    await vm().sh(
      `set -e; cd /s
       for n in $(seq ${count}); do
         free=$(df -B1 --output=avail /s | tail -1)
         ${tests}/ioctl-tool inc 1 > /dev/null
         ${tests}/fill write big $n > /tmp/filled
         test $(cat /tmp/filled) -gt $((free + 3500000)) || { echo "round $n: $free free, $(cat /tmp/filled) fit"; exit 1; }
         ${tests}/fill check big $n
         rm big
         ${tests}/ioctl-tool snap /s/cow$n 1 4 > /dev/null
         rm cow$((n - 1))
       done`,
      { timeoutMs: 20 * 60_000 },
    );
    assert.deepEqual([(await info(vm(), 1)).seqId, (await info(vm(), 1)).error], [count + 1, 0]);
    await destroyAndCheckExt4(vm(), 1, small);
  });
});
