// SPDX-License-Identifier: Apache-2.0
import { Vm } from '../harness/vm.js';
import { fileMib, latencies, run, sh, type Run } from './null-disk.js';

/** Rates relative to the same device untracked; what a write causes on the origin besides itself. */
export interface WriteRates {
  device: string;
  untrackedIops: number;
  /** Blocks written for the first time since the snapshot; the clock runs until all that was saved has landed. */
  firstWrite: number;
  /** The same in pieces of 1 MiB, one behind the other. */
  sequentialFirstWrite: number;
  rewrite: number;
  incremental: number;
  /** How far the two rounds are from each other at most, of all rates of the driver, relative. */
  difference: number;
  /** Writes to a file on another device while this one is tracked. */
  untrackedNeighbour: number;
  /** The module is loaded, and tracks nothing. */
  idle: number;
  /** The image read from end to end, relative to the origin. */
  imageRead: number;
  extraReadsPerFirstWrite: number;
  extraReadsPerRewrite: number;
  extraWritesPerRewrite: number;
  extraReadsPerIncrementalWrite: number;
  extraWritesPerIncrementalWrite: number;
  /** Sectors that the origin reads and writes for each that is written. */
  sectorsPerFirstWrite: number;
  sectorsPerRewrite: number;
  sectorsPerIncrementalWrite: number;
  /** Blocks in a write to the store. */
  blocksPerStoreWrite: number;
  /** First writes of a module that does the least that any driver can do (integration/guest/module/ceiling.c). */
  ceiling: number;
  sequentialCeiling: number;
  /** First writes and rewrites under dm-snapshot, whose store is a device of its own, by the size of its chunks in KiB. */
  dmSnapshot: Readonly<Record<string, { firstWrite: number; rewrite: number }>>;
}

const sameForAll: Partial<WriteRates> = {
  untrackedNeighbour: 0.985,
  idle: 0.999,
  imageRead: 0.95,
  extraReadsPerRewrite: 0,
  sectorsPerFirstWrite: 3.05,
  blocksPerStoreWrite: 16,
};

/** What the product has to reach, per device: at least, but for the extra reads and the sectors. */
export const targets: Readonly<Record<string, Partial<WriteRates>>> = {
  RAM: {
    ...sameForAll,
    firstWrite: 0.5,
    sequentialFirstWrite: 0.3,
    rewrite: 0.96,
    incremental: 0.97,
  },
  '100 us': { ...sameForAll, firstWrite: 0.54, rewrite: 0.97, incremental: 0.98 },
};

/** Of what is saved and has not landed, for which writers wait then: far less than a test file, so that the store takes part. */
export const pendingMib = 4;
const tool = '/opt/elio/tests/ioctl-tool';
const writes = (fileMib << 20) / 4096;
/** fio counts in ms, which is more than half a thousandth of one pass. */
const steadyPasses = 3;
const steadyWrites = steadyPasses * writes;
const diskMib = 1024;
/** Of the filesystem of the ceiling, whose store is behind it. */
const ceilingMib = 768;
const sectorsPerMib = 2048;

/** All of the ceiling's file, written for the first time since it was loaded. */
async function measureCeiling(vm: Vm, rw: 'randwrite' | 'write', size: string): Promise<Run> {
  await sh(vm, `format /dev/nullb0 ${ceilingMib}M`);
  await sh(vm, 'mount /dev/nullb0 /m0 && fill /m0/data');
  await run(vm, '/m0/data');
  const store = ceilingMib * sectorsPerMib;
  await vm.sh(`insmod /opt/elio/tests/ceiling.ko disk=/dev/nullb0 store=${store}`);
  const first = await run(vm, '/m0/data', rw, size);
  await vm.sh('sync && rmmod ceiling && umount /m0');
  return first;
}

async function measureDmSnapshot(
  vm: Vm,
  chunkKib: number,
  untracked: Run,
): Promise<{ firstWrite: number; rewrite: number }> {
  const sectors = diskMib * sectorsPerMib;
  await sh(
    vm,
    `modprobe dm-snapshot && dd if=/dev/zero of=/dev/nullb1 bs=1M count=1 oflag=direct status=none
     dmsetup create base --table '0 ${sectors} snapshot-origin /dev/nullb0'
     format /dev/mapper/base && mount /dev/mapper/base /m0 && fill /m0/data`,
  );
  await run(vm, '/m0/data');
  await sh(
    vm,
    `dmsetup suspend base
     dmsetup create snap --table '0 ${sectors} snapshot /dev/nullb0 /dev/nullb1 P ${chunkKib * 2}'
     dmsetup resume base`,
  );
  const first = await run(vm, '/m0/data');
  const rewrite = await run(vm, '/m0/data');
  await sh(vm, 'umount /m0 && dmsetup remove --retry snap && dmsetup remove --retry base');
  return { firstWrite: untracked.ns / first.ns, rewrite: untracked.ns / rewrite.ns };
}

/** Writes of which each pass is like the one before. */
function runSteady(vm: Vm, file: string): Promise<Run> {
  return run(vm, file, 'randwrite', '4k', fileMib, steadyPasses);
}

const load = `insmod /opt/elio/elastio-snap.ko pending_max_mib=${pendingMib}`;

/**
 * Without the module, and with it where nothing is tracked; in ns. What else the guest does falls into one run or another, by more than
 * the difference: the best of each, taken in turns, are what is compared.
 */
async function measureIdle(vm: Vm): Promise<{ unloaded: number; idle: number }> {
  let [unloaded, idle] = [Infinity, Infinity];
  for (let round = 0; round < 3; round += 1) {
    unloaded = Math.min(unloaded, (await runSteady(vm, '/m0/data')).ns);
    await sh(vm, load);
    idle = Math.min(idle, (await runSteady(vm, '/m0/data')).ns);
    await sh(vm, 'rmmod elastio-snap');
  }
  return { unloaded, idle };
}

/** What is measured while the origin is tracked. */
interface Tracked {
  first: Run;
  rewrite: Run;
  neighbour: Run;
  imageRead: Run;
  sequentialFirst: Run;
  incremental: Run;
}

async function measureTracked(vm: Vm): Promise<Tracked> {
  await sh(vm, `${tool} setup /dev/nullb0 /m0/cow 0 100 && udevadm settle && sync`);
  const first = await run(vm, '/m0/data');
  const rewrite = await runSteady(vm, '/m0/data');
  const neighbour = await runSteady(vm, '/m1/data');
  const imageRead = await run(vm, '/dev/elastio-snap0', 'read', '1M', 256);
  await sh(vm, `${tool} inc 0 && udevadm settle && ${tool} snap /m0/cow2 0 100 && udevadm settle`);
  const sequentialFirst = await run(vm, '/m0/data', 'write', '1M');
  await sh(vm, `${tool} inc 0 && udevadm settle && sync`);
  const incremental = await runSteady(vm, '/m0/data');
  await sh(vm, `${tool} destroy 0 && rm -f /m0/cow /m0/cow2 && sync`);
  return { first, rewrite, neighbour, imageRead, sequentialFirst, incremental };
}

function sectorsOf({ readSectors, writtenSectors }: Run): number {
  return readSectors + writtenSectors;
}

async function measureDevice(vm: Vm, device: string, parameters: string): Promise<WriteRates> {
  // A disk of null_blk takes the memory for a block, and clears it, when that is first written: a real one has its blocks already.
  await sh(
    vm,
    `modprobe null_blk nr_devices=2 gb=1 memory_backed=1 queue_mode=2 submit_queues=1 ${parameters}
     for n in 0 1; do
       dd if=/dev/zero of=/dev/nullb$n bs=1M count=${diskMib} oflag=direct status=none
       format /dev/nullb$n
       mkdir -p /m$n && mount /dev/nullb$n /m$n && fill /m$n/data
     done`,
  );
  for (const file of ['/m0/data', '/m1/data']) await run(vm, file);
  const { unloaded, idle } = await measureIdle(vm);
  await sh(vm, load);
  const untracked = await run(vm, '/m0/data');
  const steady = await runSteady(vm, '/m0/data');
  const neighbourUntracked = await runSteady(vm, '/m1/data');
  const sequentialUntracked = await run(vm, '/m0/data', 'write', '1M');
  const rawRead = await run(vm, '/dev/nullb0', 'read', '1M', 256);
  const tracked = await measureTracked(vm);
  const again = await measureTracked(vm);
  await sh(vm, 'umount /m0 /m1 && rmmod elastio-snap');
  const ceiling = await measureCeiling(vm, 'randwrite', '4k');
  const sequentialCeiling = await measureCeiling(vm, 'write', '1M');
  const dmSnapshot = {
    4: await measureDmSnapshot(vm, 4, untracked),
    64: await measureDmSnapshot(vm, 64, untracked),
  };
  await sh(vm, 'modprobe -r null_blk');
  const differences = (Object.keys(tracked) as (keyof Tracked)[]).map((key) =>
    Math.abs(again[key].ns / tracked[key].ns - 1),
  );
  const { first, rewrite, neighbour, imageRead, sequentialFirst, incremental } = tracked;
  return {
    device,
    untrackedIops: writes / (untracked.ns / 1e9),
    firstWrite: untracked.ns / first.ns,
    sequentialFirstWrite: sequentialUntracked.ns / sequentialFirst.ns,
    rewrite: steady.ns / rewrite.ns,
    incremental: steady.ns / incremental.ns,
    difference: Math.max(...differences),
    untrackedNeighbour: neighbourUntracked.ns / neighbour.ns,
    idle: unloaded / idle,
    imageRead: rawRead.ns / imageRead.ns,
    extraReadsPerFirstWrite: (first.reads - untracked.reads) / writes,
    extraReadsPerRewrite: (rewrite.reads - steady.reads) / steadyWrites,
    extraWritesPerRewrite: (rewrite.writes - steady.writes) / steadyWrites,
    extraReadsPerIncrementalWrite: (incremental.reads - steady.reads) / steadyWrites,
    extraWritesPerIncrementalWrite: (incremental.writes - steady.writes) / steadyWrites,
    sectorsPerFirstWrite: sectorsOf(first) / untracked.writtenSectors,
    sectorsPerRewrite: sectorsOf(rewrite) / steady.writtenSectors,
    sectorsPerIncrementalWrite: sectorsOf(incremental) / steady.writtenSectors,
    blocksPerStoreWrite: writes / (first.writes - untracked.writes),
    ceiling: untracked.ns / ceiling.ns,
    sequentialCeiling: sequentialUntracked.ns / sequentialCeiling.ns,
    dmSnapshot,
  };
}

/** Measures with the instruction clock, on RAM disks without and with a latency of their own. */
export async function measureWriteRates(directory: string): Promise<WriteRates[]> {
  const vm = await Vm.boot({
    name: 'bench',
    instructionClock: true,
    memoryMib: 3 * diskMib + 512,
    logDir: directory,
  });
  try {
    const rates: WriteRates[] = [];
    for (const [device, parameters] of Object.entries(latencies)) {
      rates.push(await measureDevice(vm, device, parameters));
    }
    await vm.checkDmesg();
    return rates;
  } finally {
    await vm.stop();
  }
}
