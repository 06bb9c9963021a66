// SPDX-License-Identifier: Apache-2.0
// How long a snapshot keeps writers out, beside freezing and thawing the filesystem by hand, and how long each call takes.
import { Vm } from '../harness/vm.js';
import { latencies, sh } from './null-disk.js';
import { percentile } from './percentile.js';

/** In milliseconds of the guest's clock. */
export interface Spread {
  count: number;
  p50: number;
  p99: number;
}

export interface FreezeTimes {
  device: string;
  /** fsfreeze -f and fsfreeze -u, without the time between them. */
  byHand: Spread;
  /** From the call that freezes the filesystem to the return of the one that thaws it. */
  setupFreeze: Spread;
  transitionFreeze: Spread;
  /** The whole of a command. */
  setup: Spread;
  toIncremental: Spread;
  toSnapshot: Spread;
  destroy: Spread;
}

/** So much longer than by hand a snapshot may keep writers out (p99). */
export const freezeTargetMs = 2;

const rounds = 50;
const diskMib = 256;
const timeoutMs = 10 * 60_000;
const tool = '/opt/elio/tests/ioctl-tool';

function spread(values: readonly number[]): Spread {
  if (values.length !== rounds) throw new Error(`${values.length} figures of ${rounds} rounds`);
  return { count: values.length, p50: percentile(values, 0.5), p99: percentile(values, 0.99) };
}

/** Two who write meanwhile: one past the page cache, one through it. */
const writers = `
for direct in 0 1; do
  fio --name=w$direct --filename=/m0/data$direct --size=32M --rw=randwrite --bs=4k --direct=$direct --ioengine=libaio \\
    --iodepth=4 --rate_iops=500 --time_based --runtime=1d > /dev/null 2>&1 &
done`;

/**
 * timed COMMAND...: prints how many ms of the guest's clock it took. traced: prints the ms of each freeze since the last call, of
 * freeze_super() and thaw_super() and of all between them.
 */
const functions = `
timed() { begun=$(date +%s%N); "$@" > /dev/null; ended=$(date +%s%N); echo $(((ended - begun) / 1000)) | awk '{ print $1 / 1000 }'; }
traced() {
  awk '{ for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+[.][0-9]+:$/) { at = $i * 1000; what = $(i + 1) } }
    what == "freeze:" { f = at } what == "frozen:" { freeze = at - f } what == "thaw:" { t = at }
    what == "thawed:" { print freeze, at - t, at - f } { what = "" }' /sys/kernel/tracing/trace
  echo > /sys/kernel/tracing/trace
}`;

async function measureDevice(vm: Vm, device: string, parameters: string): Promise<FreezeTimes> {
  await sh(
    vm,
    `modprobe null_blk nr_devices=1 gb=1 memory_backed=1 queue_mode=2 submit_queues=1 ${parameters}
     dd if=/dev/zero of=/dev/nullb0 bs=1M count=${diskMib} oflag=direct status=none
     format /dev/nullb0 ${diskMib}M
     mkdir -p /m0 && mount /dev/nullb0 /m0 && insmod /opt/elio/elastio-snap.ko
     ${writers}`,
  );
  const figures = async (script: string): Promise<number[]> =>
    (await vm.sh(`${functions}\n${script}`, { timeoutMs })).trim().split(/\s+/).map(Number);

  const byHand: number[] = [];
  const freezes: number[][] = [[], []];
  const calls: number[][] = [[], [], [], []];
  for (let round = 0; round < rounds; round += 1) {
    await vm.sh('sleep 0.2; sync -f /m0; fsfreeze -f /m0; fsfreeze -u /m0');
    const [freeze = NaN, thaw = NaN] = await figures('traced');
    byHand.push(freeze + thaw);
    const commands = [`setup /dev/nullb0 /m0/cow 0 32`, 'inc 0', `snap /m0/cow2 0 32`, 'destroy 0'];
    for (const [i, command] of commands.entries()) {
      const [took = NaN, , , whole] = await figures(
        `sleep 0.2; timed ${tool} ${command}; traced; rm -f /m0/cow2; udevadm settle`,
      );
      calls[i]?.push(took);
      if (whole !== undefined) freezes[i / 2]?.push(whole);
    }
  }
  await vm.sh('kill $(pidof fio); wait; while pidof fio; do sleep 0.1; done; umount /m0');
  await vm.sh('rmmod elastio-snap && modprobe -r null_blk');
  const [setup = [], toIncremental = [], toSnapshot = [], destroy = []] = calls;
  return {
    device,
    byHand: spread(byHand),
    setupFreeze: spread(freezes[0] ?? []),
    transitionFreeze: spread(freezes[1] ?? []),
    setup: spread(setup),
    toIncremental: spread(toIncremental),
    toSnapshot: spread(toSnapshot),
    destroy: spread(destroy),
  };
}

/** Measures with the instruction clock and two writers, on RAM disks without and with a latency of their own. */
export async function measureFreezeTimes(directory: string): Promise<FreezeTimes[]> {
  const vm = await Vm.boot({
    name: 'freeze',
    instructionClock: true,
    memoryMib: diskMib + 1024,
    logDir: directory,
  });
  try {
    await vm.sh(`cd /sys/kernel/tracing && echo mono > trace_clock
      echo 'p:freeze freeze_super' > kprobe_events && echo 'r:frozen freeze_super' >> kprobe_events
      echo 'p:thaw thaw_super' >> kprobe_events && echo 'r:thawed thaw_super' >> kprobe_events
      echo 1 > events/kprobes/enable`);
    const times: FreezeTimes[] = [];
    for (const [device, parameters] of Object.entries(latencies))
      times.push(await measureDevice(vm, device, parameters));
    await vm.checkDmesg();
    return times;
  } finally {
    await vm.stop();
  }
}
