// SPDX-License-Identifier: Apache-2.0
// Who waits for the driver's locks when several processors write to several tracked disks, by the debug kernel's lock statistics.
import { Vm } from '../harness/vm.js';
import { mostProcessors } from './machine.js';
import { fileMib, run, sh } from './null-disk.js';

/** What the kernel counted of a lock (Documentation/locking/lockstat); all locks of a kind are one. */
export interface LockUse {
  lock: string;
  acquisitions: number;
  contentions: number;
  /** Sums over all who took it, in ms of the guest's clock. */
  waitedMs: number;
  heldMs: number;
}

export interface PhaseLocks {
  phase: string;
  /** Most waited for first. */
  locks: LockUse[];
}

/** What writes at once. */
export const lockLoad = { processors: mostProcessors, trackers: 4 };

const diskMib = 192;
const tool = '/opt/elio/tests/ioctl-tool';

/** As the kernel names the driver's locks: by what initializes them. Eventpoll's ep->lock has a suffix. */
const ours = new Set([
  '&c->held_lock',
  '&c->release_lock',
  '&c->save_lock',
  '&ep->lock',
  '&ep->seal_lock',
  '&idx->lock',
  '&pool->page_lock',
  'esnap_inner_lock',
  'esnap_outer_lock',
  'openers_lock',
]);

/** The columns of /proc/lock_stat behind a lock's name that are used; times in µs. */
const columns = { contentions: 1, waited: 4, acquisitions: 7, held: 10 };

function locksOf(statistics: string): LockUse[] {
  const locks: LockUse[] = [];
  for (const line of statistics.split('\n')) {
    const [, name = '', figures = ''] = /^\s*([^:]+?)(?:#\d+)?:\s+([\d.\s]+)$/.exec(line) ?? [];
    if (!ours.has(name)) continue;
    const columnsOf = figures.trim().split(/\s+/).map(Number);
    const at = (column: number): number => columnsOf[column] ?? NaN;
    locks.push({
      lock: name,
      acquisitions: at(columns.acquisitions),
      contentions: at(columns.contentions),
      waitedMs: at(columns.waited) / 1000,
      heldMs: at(columns.held) / 1000,
    });
  }
  if (locks.length === 0) throw new Error(`no lock of the driver's in /proc/lock_stat`);
  return locks.sort((a, b) => b.waitedMs - a.waitedMs);
}

/** Measures with the kernel of `make debug-kernel` that has lock statistics; its checks slow all down, locks and what is between. */
export async function measureLockContention(directory: string): Promise<PhaseLocks[]> {
  const vm = await Vm.boot({
    name: 'locks',
    kernel: '6.1-kasan',
    cpus: lockLoad.processors,
    memoryMib: lockLoad.trackers * diskMib + 1024,
    logDir: directory,
  });
  try {
    const numbers = Array.from({ length: lockLoad.trackers }, (_, n) => String(n));
    const files = numbers.map((n) => `/m${n}/data`).join(' ');
    const each = (command: string): Promise<string> =>
      sh(vm, `for n in ${numbers.join(' ')}; do ${command} || exit 1; done; udevadm settle; sync`);
    const measure = async (phase: string): Promise<PhaseLocks> => {
      await vm.sh('echo 0 > /proc/lock_stat; echo 1 > /proc/sys/kernel/lock_stat');
      await run(vm, files);
      const statistics = await vm.sh('echo 0 > /proc/sys/kernel/lock_stat; cat /proc/lock_stat');
      return { phase, locks: locksOf(statistics) };
    };
    await sh(
      vm,
      `modprobe null_blk nr_devices=${lockLoad.trackers} gb=1 memory_backed=1 queue_mode=2 submit_queues=${lockLoad.processors} irqmode=0
       for n in ${numbers.join(' ')}; do
         dd if=/dev/zero of=/dev/nullb$n bs=1M count=${diskMib} oflag=direct status=none
         format /dev/nullb$n ${diskMib}M
         mkdir -p /m$n && mount /dev/nullb$n /m$n && fill /m$n/data
       done
       insmod /opt/elio/elastio-snap.ko`,
    );
    await each(`${tool} setup /dev/nullb$n /m$n/cow $n ${fileMib + 16}`);
    const phases = [await measure('first write'), await measure('rewrite')];
    await each(`${tool} inc $n`);
    phases.push(await measure('incremental'));
    await each(`${tool} destroy $n`);
    await vm.checkDmesg();
    return phases;
  } finally {
    await vm.stop();
  }
}
