// SPDX-License-Identifier: Apache-2.0
// Write rates of two writers on two processors, by the time that passes here: what the instruction clock, which has one processor,
// cannot tell. Each round measures all of it; a figure is the median of the rounds.
import { Vm } from '../harness/vm.js';
import { fileMib, latencies, run, sh, type Run } from './null-disk.js';
import { median } from './percentile.js';

/** Rates relative to the same device untracked in the same round; the clock runs until all that was saved has landed. */
export interface TwoProcessorRates {
  device: string;
  rounds: number;
  firstWrite: number;
  rewrite: number;
  incremental: number;
}

const rounds = 9;
const diskMib = 512;
const tool = '/opt/elio/tests/ioctl-tool';
const files = '/m0/data /m0/more';

async function measureDevice(
  vm: Vm,
  device: string,
  parameters: string,
): Promise<TwoProcessorRates> {
  await sh(
    vm,
    `modprobe null_blk nr_devices=1 gb=1 memory_backed=1 queue_mode=2 submit_queues=2 ${parameters}
     dd if=/dev/zero of=/dev/nullb0 bs=1M count=${diskMib} oflag=direct status=none
     format /dev/nullb0 ${diskMib}M
     mkdir -p /m0 && mount /dev/nullb0 /m0 && insmod /opt/elio/elastio-snap.ko
     for file in ${files}; do fill $file; done`,
  );
  await run(vm, files);
  const ratios = {
    firstWrite: [] as number[],
    rewrite: [] as number[],
    incremental: [] as number[],
  };
  for (let round = 0; round < rounds; round += 1) {
    const untracked = await run(vm, files);
    const ratio = ({ ns }: Run): number => untracked.ns / ns;
    await sh(vm, `${tool} setup /dev/nullb0 /m0/cow 0 ${2 * fileMib + 32}; udevadm settle; sync`);
    ratios.firstWrite.push(ratio(await run(vm, files)));
    ratios.rewrite.push(ratio(await run(vm, files)));
    await sh(vm, `${tool} inc 0; udevadm settle; sync`);
    ratios.incremental.push(ratio(await run(vm, files)));
    await sh(vm, `${tool} destroy 0 && rm -f /m0/cow && sync`);
  }
  await sh(vm, 'umount /m0 && rmmod elastio-snap && modprobe -r null_blk');
  return {
    device,
    rounds,
    firstWrite: median(ratios.firstWrite),
    rewrite: median(ratios.rewrite),
    incremental: median(ratios.incremental),
  };
}

/** Measures on RAM disks without and with a latency of their own. */
export async function measureTwoProcessors(directory: string): Promise<TwoProcessorRates[]> {
  const vm = await Vm.boot({
    name: 'two-processors',
    cpus: 2,
    memoryMib: diskMib + 1024,
    logDir: directory,
  });
  try {
    const rates: TwoProcessorRates[] = [];
    for (const [device, parameters] of Object.entries(latencies))
      rates.push(await measureDevice(vm, device, parameters));
    await vm.checkDmesg();
    return rates;
  } finally {
    await vm.stop();
  }
}
