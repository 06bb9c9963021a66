// SPDX-License-Identifier: Apache-2.0
// Write rates of several devices at once, each with a tracker of its own.
import { Vm } from '../harness/vm.js';
import { fileMib, run, sh } from './null-disk.js';

/** Rates relative to the same devices untracked; the clock runs until all that was saved has landed. */
export interface TrackerRates {
  trackers: number;
  firstWrite: number;
  rewrite: number;
  incremental: number;
}

const counts = [1, 4, 16];
const most = Math.max(...counts);
const diskMib = 192;

/** Measures with the instruction clock, on RAM disks. */
export async function measureTrackers(directory: string): Promise<TrackerRates[]> {
  const vm = await Vm.boot({
    name: 'trackers',
    instructionClock: true,
    memoryMib: most * diskMib + 1024,
    logDir: directory,
  });
  const tool = '/opt/elio/tests/ioctl-tool';
  try {
    await sh(
      vm,
      `modprobe null_blk nr_devices=${most} gb=1 memory_backed=1 queue_mode=2 submit_queues=1 irqmode=0
       for n in $(seq 0 ${most - 1}); do
         dd if=/dev/zero of=/dev/nullb$n bs=1M count=${diskMib} oflag=direct status=none
         format /dev/nullb$n ${diskMib}M
         mkdir -p /m$n && mount /dev/nullb$n /m$n && fill /m$n/data
       done`,
    );
    const rates: TrackerRates[] = [];
    for (const trackers of counts) {
      const numbers = Array.from({ length: trackers }, (_, n) => String(n));
      const files = numbers.map((n) => `/m${n}/data`).join(' ');
      const each = (command: string): Promise<string> =>
        sh(
          vm,
          `for n in ${numbers.join(' ')}; do ${command} || exit 1; done; udevadm settle; sync`,
        );
      await run(vm, files);
      await vm.sh('insmod /opt/elio/elastio-snap.ko');
      const untracked = await run(vm, files);
      await each(`${tool} setup /dev/nullb$n /m$n/cow $n ${fileMib + 16}`);
      const first = await run(vm, files);
      const rewrite = await run(vm, files);
      await each(`${tool} inc $n`);
      const incremental = await run(vm, files);
      await each(`${tool} destroy $n && rm -f /m$n/cow`);
      await vm.sh('rmmod elastio-snap');
      rates.push({
        trackers,
        firstWrite: untracked.ns / first.ns,
        rewrite: untracked.ns / rewrite.ns,
        incremental: untracked.ns / incremental.ns,
      });
    }
    await vm.checkDmesg();
    return rates;
  } finally {
    await vm.stop();
  }
}
