// SPDX-License-Identifier: Apache-2.0
// Everything at random and at once (integration/guest/stress.c). ELIO_SEED chooses another order of events, ELIO_LENGTH=long
// runs for 20 minutes instead of 2.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { loadDriver, mountExt4, rounds, tests } from './driver.js';

const names = ['a', 'b', 'c'];
const seconds = rounds(120, 1200);
const seed = Number(process.env['ELIO_SEED'] ?? 1);

describe('the driver under stress', () => {
  const vm = useVm({ name: 'stress', disks: names.map((name) => ({ name, sizeMib: 48 })) });

  it(`keeps every promise for ${String(seconds)} seconds of all its calls at random, seed ${String(seed)}`, async function () {
    this.timeout((seconds + 300) * 1000);
    await loadDriver(vm());
    const disks = names.map((name) => vm().disk(name));
    for (const [index, disk] of disks.entries()) {
      await mountExt4(vm(), disk, `/s${String(index)}`, '-b 4096');
      await vm().sh(`touch /s${String(index)}/mounted && cp -r /etc /s${String(index)}/kept`);
    }
    const output = await vm().sh(
      `${tests}/stress ${seconds} ${seed} /opt/elio/elastio-snap.ko ${disks.join(' ')}`,
      { timeoutMs: (seconds + 120) * 1000 },
    );
    const counts = JSON.parse(output) as Record<string, number>;
    for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `${what}: ${output}`);

    await vm().sh(
      'for d in /s0 /s1 /s2; do while umount $d 2> /dev/null; do :; done; done; rmmod elastio-snap',
    );
    for (const disk of disks)
      await vm().sh(
        `until e2fsck -fn ${disk}; do sleep 1; test $((n += 1)) -lt 20 || exit 1; done`,
      );
  });
});
