// SPDX-License-Identifier: Apache-2.0
import { Vm } from '../harness/vm.js';

/** Rates of writes relative to the same device untracked; what a write causes on the origin besides itself. */
export interface WriteRates {
  device: string;
  untrackedIops: number;
  /** Blocks written for the first time since the snapshot; the clock runs until all that was saved has landed. */
  firstWrite: number;
  rewrite: number;
  incremental: number;
  /** Writes to a file on another device while this one is tracked. */
  untrackedNeighbour: number;
  extraReadsPerFirstWrite: number;
  extraReadsPerRewrite: number;
  extraWritesPerRewrite: number;
}

/** What the product has to reach, per device. */
export const targets: Readonly<Record<string, Partial<WriteRates>>> = {
  RAM: { firstWrite: 0.5, rewrite: 0.96, incremental: 0.97, extraReadsPerRewrite: 0 },
  '100 us': { firstWrite: 0.54, rewrite: 0.97, incremental: 0.98, extraReadsPerRewrite: 0 },
};

const fileMib = 48;
const writes = (fileMib << 20) / 4096;

const devices: Readonly<Record<string, string>> = {
  RAM: 'irqmode=0',
  '100 us': 'irqmode=2 completion_nsec=100000',
};

/**
 * Prints the run's duration in ns and the origin's reads and writes during it. The duration is fio's own, plus the time from
 * its end until the device has written nothing for a quarter of a second, without that quarter.
 */
const measure = `measure() {
  stat() { awk '{ print $1, $5 }' /sys/block/nullb0/stat; }
  set -- $(stat) $1
  runtime=$(fio --name=w --filename=$3 --rw=randwrite --bs=4k --size=${fileMib}M --direct=1 --ioengine=libaio \\
    --iodepth=16 --randseed=1 --output-format=json --fallocate=none |
    awk -F: '/"write"/ { w = 1 } w && /"runtime"/ { print $2 + 0; exit }')
  ended=$(date +%s%N); last=$ended; seen=$(stat)
  while now=$(date +%s%N); [ $((now - last)) -lt 250000000 ]; do
    is=$(stat); [ "$is" = "$seen" ] || { seen=$is; last=$now; }
  done
  set -- $1 $2 $seen
  echo $((runtime * 1000000 + last - ended)) $(($3 - $1)) $(($4 - $2))
}`;

interface Run {
  ns: number;
  reads: number;
  writes: number;
}

async function run(vm: Vm, file: string): Promise<Run> {
  const output = await vm.sh(`${measure}; measure ${file}`, { timeoutMs: 10 * 60_000 });
  const [ns = NaN, reads = NaN, written = NaN] = output.trim().split(' ').map(Number);
  return { ns, reads, writes: written };
}

async function measureDevice(vm: Vm, device: string, parameters: string): Promise<WriteRates> {
  const tool = '/opt/elio/tests/ioctl-tool';
  await vm.sh(
    `modprobe null_blk nr_devices=2 gb=1 memory_backed=1 queue_mode=2 submit_queues=1 ${parameters}
     for n in 0 1; do
       mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard /dev/nullb$n
       mkdir -p /m$n && mount /dev/nullb$n /m$n
       dd if=/dev/urandom of=/m$n/data bs=1M count=${fileMib} oflag=direct status=none
     done; sync`,
    { timeoutMs: 10 * 60_000 },
  );
  for (const file of ['/m0/data', '/m1/data']) await run(vm, file);
  const untracked = await run(vm, '/m0/data');
  const neighbourUntracked = await run(vm, '/m1/data');
  await vm.sh(`${tool} setup /dev/nullb0 /m0/cow 0 100 && udevadm settle && sync`);
  const first = await run(vm, '/m0/data');
  const rewrite = await run(vm, '/m0/data');
  const neighbour = await run(vm, '/m1/data');
  await vm.sh(`${tool} inc 0 && udevadm settle && ${tool} snap /m0/cow2 0 100 && udevadm settle`);
  await vm.sh(`${tool} inc 0 && udevadm settle && sync`);
  const incremental = await run(vm, '/m0/data');
  await vm.sh(`${tool} destroy 0 && umount /m0 /m1 && modprobe -r null_blk`);
  return {
    device,
    untrackedIops: writes / (untracked.ns / 1e9),
    firstWrite: untracked.ns / first.ns,
    rewrite: untracked.ns / rewrite.ns,
    incremental: untracked.ns / incremental.ns,
    untrackedNeighbour: neighbourUntracked.ns / neighbour.ns,
    extraReadsPerFirstWrite: (first.reads - untracked.reads) / writes,
    extraReadsPerRewrite: (rewrite.reads - untracked.reads) / writes,
    extraWritesPerRewrite: (rewrite.writes - untracked.writes) / writes,
  };
}

/** Measures with the instruction clock, on RAM disks without and with a latency of their own. */
export async function measureWriteRates(directory: string): Promise<WriteRates[]> {
  const vm = await Vm.boot({
    name: 'bench',
    instructionClock: true,
    memoryMib: 1536,
    logDir: directory,
  });
  try {
    await vm.sh('insmod /opt/elio/elastio-snap.ko');
    const rates: WriteRates[] = [];
    for (const [device, parameters] of Object.entries(devices)) {
      rates.push(await measureDevice(vm, device, parameters));
    }
    await vm.checkDmesg();
    return rates;
  } finally {
    await vm.stop();
  }
}
