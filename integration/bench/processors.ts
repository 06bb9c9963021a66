// SPDX-License-Identifier: Apache-2.0
// Write rates of several writers, each on a processor, by the time that passes here: what the instruction clock, which has one
// processor, cannot tell. Each round measures all of it; a figure is the median of the rounds.
import { Vm } from '../harness/vm.js';
import { mostProcessors } from './machine.js';
import { fileMib, latencies, run, sh, type Run } from './null-disk.js';
import { median } from './percentile.js';

/** Rates relative to the same device untracked in the same round; the clock runs until all that was saved has landed. */
export interface ProcessorRates {
  processors: number;
  device: string;
  rounds: number;
  firstWrite: number;
  rewrite: number;
  incremental: number;
}

const rounds = 9;
const counts = [...new Set([2, mostProcessors])];
const diskMibOfOne = 256;
const tool = '/opt/elio/tests/ioctl-tool';

async function measureDevice(
  vm: Vm,
  processors: number,
  device: string,
  parameters: string,
): Promise<ProcessorRates> {
  const files = Array.from({ length: processors }, (_, n) => `/m0/data${n}`).join(' ');
  const diskMib = processors * diskMibOfOne;
  const gib = Math.ceil(diskMib / 1024);
  await sh(
    vm,
    `modprobe null_blk nr_devices=1 gb=${gib} memory_backed=1 queue_mode=2 submit_queues=${processors} ${parameters}
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
    await sh(
      vm,
      `${tool} setup /dev/nullb0 /m0/cow 0 ${processors * fileMib + 32}; udevadm settle; sync`,
    );
    ratios.firstWrite.push(ratio(await run(vm, files)));
    ratios.rewrite.push(ratio(await run(vm, files)));
    await sh(vm, `${tool} inc 0; udevadm settle; sync`);
    ratios.incremental.push(ratio(await run(vm, files)));
    await sh(vm, `${tool} destroy 0 && rm -f /m0/cow && sync`);
  }
  await sh(vm, 'umount /m0 && rmmod elastio-snap && modprobe -r null_blk');
  return {
    processors,
    device,
    rounds,
    firstWrite: median(ratios.firstWrite),
    rewrite: median(ratios.rewrite),
    incremental: median(ratios.incremental),
  };
}

/** Measures on RAM disks without and with a latency of their own. */
export async function measureProcessors(directory: string): Promise<ProcessorRates[]> {
  const rates: ProcessorRates[] = [];
  for (const processors of counts) {
    const vm = await Vm.boot({
      name: `processors-${processors}`,
      cpus: processors,
      memoryMib: processors * diskMibOfOne + 1024,
      logDir: directory,
    });
    try {
      for (const [device, parameters] of Object.entries(latencies))
        rates.push(await measureDevice(vm, processors, device, parameters));
      await vm.checkDmesg();
    } finally {
      await vm.stop();
    }
  }
  return rates;
}
