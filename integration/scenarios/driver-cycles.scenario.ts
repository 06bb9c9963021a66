// SPDX-License-Identifier: Apache-2.0
// The life of a tracker from set-up to destroy, many times over: 24 times, with ELIO_LENGTH=long a thousand. A debug kernel looks for
// what nobody refers to any more at the end.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { loadDriver, mountExt4, tests } from './driver.js';

describe('the life of a tracker, many times over', () => {
  const vm = useVm({ name: 'cycles', leakSearch: true, disks: [{ name: 'small', sizeMib: 16 }] });

  it('leaves nothing', async () => {
    const disk = vm().disk('small');
    await loadDriver(vm());
    await mountExt4(vm(), disk, '/s');
    const traces = `udevadm settle; sync
      ls /sys/block | sort
      ls /dev/elastio-snap*
      awk '$1 == "elastio_snap" { print "users", $3 }' /proc/modules
      grep -c elastio_snap /proc/vmallocinfo
      ps -eo comm= | grep -c ^esnap_ || true
      # What a processor keeps of a cache counts as used.
      for cache in /sys/kernel/slab/esnap* /sys/kernel/slab/*image_read*; do echo 1 > $cache/shrink; done
      awk '$1 ~ /^(esnap|image_read)/ { print $1, $2 }' /proc/slabinfo
      wc -l < /sys/kernel/tracing/enabled_functions
      df --output=used /s | tail -1`;
    const cycles = (count: number): Promise<string> =>
      vm().sh(
        `set -e; tool() { ${tests}/ioctl-tool "$@" > /dev/null; }
         for n in $(seq ${count}); do
           until tool setup ${disk} /s/cow 2 4; do udevadm settle; done
           echo $n > /s/file; sync; head -c 4k /dev/elastio-snap2 > /dev/null
           until tool inc 2; do udevadm settle; done
           echo again $n > /s/file; sync
           tool snap /s/next 2 4
           echo and again $n > /s/file; sync
           until tool destroy 2; do udevadm settle; done
           rm /s/cow
         done`,
        { timeoutMs: rounds(20, 300) * 60_000 },
      );
    await cycles(3);
    const before = await vm().sh(traces);
    await cycles(rounds(24, 1000));
    assert.equal(await vm().sh(traces), before);
    await vm().sh('rmmod elastio-snap && umount /s && ! grep -q elastio /proc/vmallocinfo');
  });
});
