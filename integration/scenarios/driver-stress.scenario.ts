// SPDX-License-Identifier: Apache-2.0
// Everything at random and at once (integration/guest/stress.c). ELIO_SEED chooses another order of events, ELIO_LENGTH=long
// runs for 20 minutes instead of 1; on a slow kernel it takes longer until everything has happened.
import assert from 'node:assert/strict';
import { defaultKernel, slowness } from '../harness/debian.js';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { loadDriver, mountExt4, mountXfs, tests } from './driver.js';

// XFS has no smaller ones.
const filesystems = [
  { type: 'ext4', name: 'a', sizeMib: 48 },
  { type: 'ext4', name: 'b', sizeMib: 48 },
  { type: 'xfs', name: 'c', sizeMib: 64 },
];
const factor = slowness(defaultKernel());
const seconds = factor * rounds(60, 1200);
const seed = Number(process.env['ELIO_SEED'] ?? 1);
const mostRounds = 5;

describe('the driver under stress', () => {
  const vm = useVm({ name: 'stress', disks: filesystems });

  it(`keeps every promise for ${String(seconds)} seconds of all its calls at random, seed ${String(seed)}`, async function () {
    this.timeout((mostRounds * seconds + 300 * factor) * 1000);
    await loadDriver(vm());
    const disks = filesystems.map(({ type, name }) => ({ type, device: vm().disk(name) }));
    for (const [index, { type, device }] of disks.entries()) {
      const directory = `/s${String(index)}`;
      if (type === 'ext4') await mountExt4(vm(), device, directory, '-b 4096');
      else await mountXfs(vm(), device, directory);
      await vm().sh(`touch ${directory}/mounted && cp -r /etc ${directory}/kept`);
    }
    const counts = new Map<string, number>();
    // A slow machine does not come to everything in that time.
    for (let round = 0; round === 0 || [...counts.values()].includes(0); round += 1) {
      assert.ok(round < mostRounds, JSON.stringify([...counts]));
      const output = await vm().sh(
        `${tests}/stress ${seconds} ${seed + round} /opt/elio/elastio-snap.ko ${disks.map(({ type, device }) => `${type}:${device}`).join(' ')}`,
        { timeoutMs: (seconds + 120) * 1000 },
      );
      for (const [what, count] of Object.entries(JSON.parse(output) as Record<string, number>)) {
        counts.set(what, (counts.get(what) ?? 0) + count);
      }
    }

    await vm().sh(
      'for d in /s0 /s1 /s2; do while umount $d 2> /dev/null; do :; done; done; rmmod elastio-snap',
    );
    for (const { type, device } of disks)
      await vm().sh(
        `until ${type === 'ext4' ? 'e2fsck -fn' : 'xfs_repair -n'} ${device}; do sleep 1; test $((n += 1)) -lt 20 || exit 1; done`,
      );
  });
});
