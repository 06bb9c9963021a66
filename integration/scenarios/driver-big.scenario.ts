// SPDX-License-Identifier: Apache-2.0
// Large devices: the ends of the origin, the borders of sections, and what all of it costs in memory.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { changedBlocks, info, ioctl, loadDriver, states } from './driver.js';

const tib = 1024 * 1024;
const image = '/dev/elastio-snap0';
const block = 4096;
const sectionBlocks = 4096;

for (const { name, sizeMib } of [
  { name: '1 TiB', sizeMib: tib },
  { name: '15.9 TiB', sizeMib: Math.floor(15.9 * tib) },
]) {
  describe(`an origin of ${name}`, () => {
    const vm = useVm({
      name: 'big',
      cpus: 1,
      disks: [{ name: 'origin', sizeMib, fill: 'zero' }],
    });
    const nrBlocks = (sizeMib * 1024 * 1024) / block;
    let origin = '';

    before(async () => {
      await loadDriver(vm());
      origin = vm().disk('origin');
      await vm().sh(
        `mkfs.ext4 -qF -m 0 -T largefile4 -E lazy_itable_init=1,nodiscard,packed_meta_blocks=1 ${origin} && mkdir -p /t && mount -o noinit_itable ${origin} /t`,
        { timeoutMs: 300_000 },
      );
    });

    const indexMib = Math.ceil(nrBlocks / sectionBlocks / 32);

    /** Blocks in free places: the first and last of sections all over, and the last of the device. */
    function places(): number[] {
      const sections = Math.floor(nrBlocks / sectionBlocks);
      const chosen = [0.2, 0.5, 0.77, 0.999].map((part) => Math.floor(sections * part));
      return [...chosen.flatMap((s) => [s * sectionBlocks - 1, s * sectionBlocks]), nrBlocks - 1];
    }

    const write = (at: number, seed: string): string =>
      `yes ${seed}${at} | head -c ${block} | dd of=${origin} bs=${block} seek=${at} oflag=direct iflag=fullblock conv=notrunc status=none`;
    const sum = (device: string): string =>
      `for at in ${places().join(' ')}; do dd if=${device} bs=${block} skip=$at count=1 iflag=direct status=none; done | sha256sum`;

    it('is set up at once, and its image and changes are right from end to end', async () => {
      const [disk] = (await vm().sh(`basename $(readlink -f ${origin})`)).trim().split('\n');
      const sectors = `awk '{ print $3 + $7 }' /sys/class/block/${disk ?? ''}/stat`;
      await vm().sh('sync');
      for (const at of places()) await vm().sh(write(at, 'old'));
      const before = await vm().sh(sum(origin));
      const moved = Number(await vm().sh(sectors));
      await ioctl(vm(), 'setup', origin, '/t/cow', 0, indexMib + 64);
      // Header and the metadata of the allocation, which for a file of this size takes some block groups' bitmaps.
      assert.ok(Number(await vm().sh(sectors)) - moved < 64 * 2048, 'sectors moved by the set-up');

      for (const at of places()) await vm().sh(write(at, 'new'));
      assert.notEqual(await vm().sh(sum(origin)), before);
      assert.equal(await vm().sh(sum(image)), before);
      await ioctl(vm(), 'inc', 0);
      const changed = await changedBlocks(vm(), 1);
      for (const at of places())
        assert.ok(
          changed.some(([first, count]) => at >= first && at < first + count),
          `block ${String(at)}`,
        );
    });

    const regionBlocks = 32768;
    // The memory is by regions of the bitmap: all of them, or in a short run one of 64.
    const step = rounds(sizeMib > tib ? 64 : 1, 1);

    it('records a change in every region', async () => {
      const count = Math.floor(nrBlocks / regionBlocks / step) - 2;
      await vm().sh(
        `fio --name=touch --filename=${origin} --rw=write --bs=4k --zonemode=strided --zonerange=${regionBlocks * block * step} --zonesize=4k --number_ios=${count} --offset=${regionBlocks * block * 1024} --direct=1 --ioengine=psync --size=100% --minimal > /dev/null`,
        { timeoutMs: 600_000 },
      );
      const { error, nrChangedBlocks } = await info(vm(), 0);
      assert.equal(error, 0);
      assert.ok(nrChangedBlocks > count * 0.8, String(nrChangedBlocks));
    });

    it('keeps all of it over an unmount', async () => {
      const changed = await changedBlocks(vm(), 1);
      await vm().sh('umount /t', { timeoutMs: 300_000 });
      assert.equal((await info(vm(), 0)).state, states.dormantIncremental);
      await vm().sh('rmmod elastio-snap');
      await loadDriver(vm());
      await ioctl(vm(), 'reload-inc', origin, '/cow', 0);
      await vm().sh(`mount -o noinit_itable ${origin} /t`, { timeoutMs: 300_000 });
      assert.deepEqual([(await info(vm(), 0)).state, (await info(vm(), 0)).error], [2, 0]);
      const after = await changedBlocks(vm(), 1);
      const covered = (at: number): boolean =>
        after.some(([first, count]) => at >= first && at < first + count);
      for (const [first, count] of changed.slice(0, 500))
        assert.ok(covered(first) && covered(first + count - 1), `block ${String(first)}`);
    });

    it('costs 33 MiB of memory a TiB at most when it is destroyed', async () => {
      // Free pages that a processor keeps for itself count as used: it may keep few.
      const available =
        "echo 100000 > /proc/sys/vm/percpu_pagelist_high_fraction; sync; echo 3 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory; sleep 1; awk '/^(MemFree|Buffers|Cached|SReclaimable):/ { sum += $2 } END { print sum }' /proc/meminfo";
      await vm().sh(available);
      const before = Number(await vm().sh(available));
      await ioctl(vm(), 'destroy', 0);
      const freedMib = (Number(await vm().sh(available)) - before) / 1024;
      // A page for each region that changed; the tables of all regions take a quarter of a MiB a TiB.
      const pagesMib = (32 * sizeMib) / tib / step;
      const tablesMib = (0.25 * sizeMib) / tib;
      // What a kernel keeps about its own memory, most of all one that looks for errors, comes to some MiB.
      assert.ok(freedMib < pagesMib + tablesMib + 8, `${String(freedMib)} MiB`);
      assert.ok(freedMib > pagesMib * 0.8, `${String(freedMib)} MiB`);
    });
  });
}
