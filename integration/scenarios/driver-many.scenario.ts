// SPDX-License-Identifier: Apache-2.0
// Odd sizes and many trackers at once.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import {
  changedBlocks,
  info,
  insmod,
  ioctl,
  loadDriver,
  mkfs,
  mountExt4,
  tests,
  tryIoctl,
} from './driver.js';

const image = '/dev/elastio-snap0';

describe('an origin of an odd size', () => {
  const vm = useVm({ name: 'odd', disks: [{ name: 'disk', sizeMib: 96 }] });

  before(async () => {
    await loadDriver(vm());
  });

  // Whole sections of blocks and a bit: the last block's entry has no place in the index area.
  for (const sectors of [16384 * 8 + 1, 16384 * 8 + 7, 16384 * 8 - 8 + 3]) {
    it(`keeps its last block: ${String(sectors)} sectors`, async () => {
      const disk = vm().disk('disk');
      const part = `${disk}-part1`;
      await vm().sh(
        `wipefs -qa ${disk}; printf 'label: dos\\nstart=2048, size=${sectors}, type=83\\n' | sfdisk -q ${disk} && udevadm settle`,
      );
      await mountExt4(vm(), part, '/t', '-b 1024');
      const last = sectors - 1;
      const bytes = `dd if=/dev/urandom of=${part} bs=512 seek=${last} count=1 oflag=direct conv=notrunc status=none`;
      const sum = (device: string): string =>
        `dd if=${device} bs=512 skip=${last - 2} count=3 iflag=direct status=none | sha256sum`;
      await vm().sh(bytes);
      // A cache of no section: what can be evicted is.
      await ioctl(vm(), 'setup', part, '/t/cow', 0, 8, 1);
      assert.equal(await vm().sh(`blockdev --getsz ${image}`), `${sectors}\n`);
      const before = await vm().sh(sum(image));
      assert.equal(before, await vm().sh(sum(part)));
      await vm().sh(bytes);
      await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=2 conv=fsync status=none');
      assert.notEqual(before, await vm().sh(sum(part)));
      assert.equal(before, await vm().sh(sum(image)));
      const isLast = ([first, count]: [number, number]): boolean =>
        first + count === Math.ceil(sectors / 8);
      assert.ok((await changedBlocks(vm(), 1)).some(isLast));

      await vm().sh('umount /t && rmmod elastio-snap');
      await loadDriver(vm());
      await ioctl(vm(), 'reload-snap', part, '/cow', 0);
      await vm().sh(`mount ${part} /t`);
      assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [3, 0]);
      assert.equal(before, await vm().sh(sum(image)));
      assert.ok((await changedBlocks(vm(), 1)).some(isLast));
      await vm().sh(`e2fsck -fn ${image}`);
      await ioctl(vm(), 'destroy', 0);
      await vm().sh(`umount /t && e2fsck -fn ${part}`);
    });
  }
});

describe('many trackers', () => {
  const vm = useVm({ name: 'many', disks: [{ name: 'disk', sizeMib: 400 }] });

  it('of 64 partitions of one disk work at the same time', async () => {
    const count = 64;
    const disk = vm().disk('disk');
    await vm().sh(`${insmod} max_snap_devices=64`);
    await vm().sh(
      `{ echo 'label: gpt'; for n in $(seq ${count}); do echo 'size=5MiB'; done; } | sfdisk -q ${disk} && udevadm settle`,
    );
    await vm().sh(
      `set -e; for n in $(seq ${count}); do
         ${mkfs('ext4', `${disk}-part$n`, '-O ^has_journal')}; mkdir -p /m/$n; mount ${disk}-part$n /m/$n
         head -c 512K /dev/urandom > /m/$n/file; sync -f /m/$n/file
         ${tests}/ioctl-tool setup ${disk}-part$n /m/$n/cow $((n - 1)) 2 > /dev/null
         dd if=/dev/elastio-snap$((n - 1)) bs=1M iflag=direct status=none | md5sum > /tmp/sum$n
       done`,
      { timeoutMs: 600_000 },
    );
    assert.equal(await tryIoctl(vm(), 'free'), 'ENOENT');
    assert.equal(await tryIoctl(vm(), 'info', count), 'EINVAL');
    await vm().sh(
      `set -e; for n in $(seq ${count}); do dd if=/dev/urandom of=/m/$n/file bs=256k count=1 seek=1 conv=notrunc status=none & done; wait; sync
       for n in $(seq ${count}); do dd if=/dev/elastio-snap$((n - 1)) bs=1M iflag=direct status=none | md5sum | cmp - /tmp/sum$n; done`,
      { timeoutMs: 600_000 },
    );
    await vm().sh(
      `set -e; udevadm settle; for n in $(seq ${count}); do umount /m/$n; ${tests}/ioctl-tool destroy $((n - 1)) > /dev/null; done; rmmod elastio-snap`,
      { timeoutMs: 600_000 },
    );
  });
});
