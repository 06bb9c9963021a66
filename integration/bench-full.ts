// SPDX-License-Identifier: Apache-2.0
// bench-full.js: what six loads on three disks take in each state of the driver, relative to the same disk without the module. Each
// load on a disk is a cell of its own, in build/bench/full/DISK-LOAD.json: cells of the same module that are there are not measured again.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runFio, sh } from './bench/null-disk.js';
import { table } from './bench/table.js';
import { fingerprint, repository } from './harness/cache.js';
import { defaultKernel } from './harness/debian.js';
import { buildModule } from './harness/payload.js';
import { say } from './harness/process.js';
import { Vm } from './harness/vm.js';

const states = ['idle', 'another device tracked', 'first write', 'rewrite', 'incremental'] as const;
type State = (typeof states)[number];

interface Cell {
  disk: string;
  load: string;
  /** Of the module that was measured. */
  module: string;
  seconds: number;
  /** The rate in each state, relative to that without the module. */
  ratios: Record<State, number>;
}

/** null_blk's attributes. */
const disks: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  RAM: { irqmode: 0 },
  '100 us': { irqmode: 2, completion_nsec: 100_000 },
  'throttled to 64 MiB a second': { irqmode: 0, mbps: 64 },
};

const direct = '--direct=1 --ioengine=libaio --iodepth=16 --name=/m0/data --filename=/m0/data';
/** What fio is told; a load writes the same blocks each time. */
const loads: Readonly<Record<string, string>> = {
  '4 KiB random': `--rw=randwrite --bs=4k --size=48M ${direct}`,
  '64 KiB random': `--rw=randwrite --bs=64k --size=48M ${direct}`,
  '1 MiB sequential': `--rw=write --bs=1M --size=48M ${direct}`,
  'mixed, 4 KiB, 70 percent read': `--rw=randrw --rwmixread=70 --bs=4k --size=48M ${direct}`,
  'small files with fsync':
    '--rw=write --bs=4k --nrfiles=1000 --filesize=8k --openfiles=8 --fsync=1 --ioengine=psync --name=files --directory=/m0/files',
  'database with fdatasync':
    '--rw=randwrite --bs=8k --size=16M --fdatasync=1 --ioengine=psync --name=/m0/data --filename=/m0/data',
};

const diskMib = 512;
const cowMib = 96;
const tool = '/opt/elio/tests/ioctl-tool';
const directory = join(repository, 'build', 'bench', 'full');

function cellFile(disk: string, load: string): string {
  return join(directory, `${`${disk}-${load}`.replaceAll(/[^a-z0-9]+/gi, '-')}.json`);
}

/** Makes nullb0 and nullb1 with filesystems that are mounted on /m0 and /m1. */
async function makeDisks(vm: Vm, disk: string): Promise<void> {
  const attributes = { size: diskMib, memory_backed: 1, queue_mode: 2, ...disks[disk] };
  const set = Object.entries(attributes).map(([name, value]) => `echo ${value} > $d/${name}`);
  // A disk of null_blk takes the memory for a block, and clears it, when that is first written: a real one has its blocks already.
  await sh(
    vm,
    `set -e; modprobe null_blk nr_devices=0
     mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
     for n in 0 1; do
       d=/sys/kernel/config/nullb/nullb$n; mkdir $d; ${set.join('; ')}; echo 1 > $d/power
       dd if=/dev/zero of=/dev/nullb$n bs=1M count=${diskMib} oflag=direct status=none
       format /dev/nullb$n; mkdir -p /m$n; mount /dev/nullb$n /m$n; fill /m$n/data; mkdir -p /m$n/files
     done`,
  );
}

async function removeDisks(vm: Vm): Promise<void> {
  await vm.sh(
    'umount /m0 /m1 && for n in 0 1; do echo 0 > /sys/kernel/config/nullb/nullb$n/power; rmdir /sys/kernel/config/nullb/nullb$n; done; modprobe -r null_blk',
  );
}

async function measureCell(vm: Vm, disk: string, load: string, module: string): Promise<Cell> {
  const words = loads[load] ?? '';
  const measure = async (): Promise<number> => (await runFio(vm, 'write', words)).ns;
  const settle = 'udevadm settle && sync';
  await makeDisks(vm, disk);
  // The files are made.
  await measure();
  const untracked = await measure();
  await sh(vm, 'insmod /opt/elio/elastio-snap.ko');
  const ns = {} as Record<State, number>;
  ns.idle = await measure();
  await sh(vm, `${tool} setup /dev/nullb1 /m1/cow 0 ${cowMib} && ${settle}`);
  ns['another device tracked'] = await measure();
  await sh(vm, `${tool} destroy 0 && ${tool} setup /dev/nullb0 /m0/cow 0 ${cowMib} && ${settle}`);
  ns['first write'] = await measure();
  ns.rewrite = await measure();
  await sh(vm, `${tool} inc 0 && ${settle}`);
  ns.incremental = await measure();
  await sh(vm, `${tool} destroy 0 && rmmod elastio-snap`);
  await removeDisks(vm);
  await vm.checkDmesg();
  const ratios = Object.fromEntries(states.map((state) => [state, untracked / ns[state]]));
  return {
    disk,
    load,
    module,
    seconds: untracked / 1e9,
    ratios: ratios as Record<State, number>,
  };
}

/** A cell that was measured of this module, or undefined. */
function earlierCell(disk: string, load: string, module: string): Cell | undefined {
  const file = cellFile(disk, load);
  if (!existsSync(file)) return undefined;
  const cell = JSON.parse(readFileSync(file, 'utf8')) as Cell;
  return cell.module === module ? cell : undefined;
}

function rowOf({ load, ratios }: Cell): string[] {
  return [load, ...states.map((state) => ratios[state].toFixed(3))];
}

mkdirSync(directory, { recursive: true });
const module = await fingerprint(await buildModule(defaultKernel()));
for (const disk of Object.keys(disks)) {
  const cells: Cell[] = [];
  let vm: Vm | undefined;
  try {
    for (const load of Object.keys(loads)) {
      const earlier = earlierCell(disk, load, module);
      if (earlier) {
        say(`${load}, ${disk}: measured in an earlier run`);
        cells.push(earlier);
        continue;
      }
      say(`measuring ${load}, ${disk}`);
      vm ??= await Vm.boot({
        name: 'bench-full',
        instructionClock: true,
        memoryMib: 2 * diskMib + 512,
        logDir: directory,
      });
      const cell = await measureCell(vm, disk, load, module);
      writeFileSync(cellFile(disk, load), `${JSON.stringify(cell, undefined, 2)}\n`);
      cells.push(cell);
    }
  } finally {
    await vm?.stop();
  }
  console.log(
    `\n${disk}, relative to the same disk without the module\n\n${table([['', ...states], ...cells.map(rowOf)])}`,
  );
}
