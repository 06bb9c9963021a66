// SPDX-License-Identifier: Apache-2.0
// What an origin's size costs: the time of the calls, and memory.
import { Vm } from '../harness/vm.js';

export interface SizeCosts {
  sizeGib: number;
  /** Of the guest's clock. */
  setupMs: number;
  toIncrementalMs: number;
  toSnapshotMs: number;
  destroyMs: number;
  /** Before any change. */
  emptyMib: number;
  /** With a change in each region of 128 MiB, which is the most that a tracker needs. */
  fullMib: number;
}

const sizesMib = [1024, 1024 * 1024, Math.floor(15.9 * 1024 * 1024)];
const regionMib = 128;
/** Where free space begins for sure on a large origin. */
const metadataMib = 1024 * regionMib;
const timeoutMs = 20 * 60_000;
const tool = '/opt/elio/tests/ioctl-tool';

/** Free memory in KiB, once all is free that can be. */
const free =
  "sync; for i in 1 2; do echo 3 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory; sleep 1; done; awk '/^(MemFree|Buffers|Cached|SReclaimable):/ { sum += $2 } END { print sum }' /proc/meminfo";

/** Writes a block to each region behind the filesystem's metadata, which mkfs has packed together. */
function touchDevice(origin: string, sizeMib: number): string {
  const count = Math.floor((sizeMib - metadataMib) / regionMib);
  return `fio --name=touch --filename=${origin} --rw=write --bs=4k --zonemode=strided --zonerange=${regionMib}M --zonesize=4k --number_ios=${count} --offset=${metadataMib}M --direct=1 --ioengine=psync --size=100% --minimal > /dev/null`;
}

function touchFile(sizeMib: number): string {
  return `dd if=/dev/zero of=/t/data bs=1M count=${Math.floor(sizeMib * 0.75)} status=none; sync`;
}

async function measureSize(sizeMib: number, directory: string): Promise<SizeCosts> {
  const vm = await Vm.boot({
    name: `size-${String(sizeMib)}`,
    cpus: 1,
    disks: [{ name: 'origin', sizeMib, fill: 'zero' }],
    logDir: directory,
  });
  try {
    const origin = vm.disk('origin');
    const number = async (script: string): Promise<number> =>
      Number(await vm.sh(script, { timeoutMs }));
    const timed = (command: string): Promise<number> =>
      number(
        `sync; begun=$(date +%s%N); ${tool} ${command} > /dev/null; ended=$(date +%s%N); udevadm settle; echo $(((ended - begun) / 1000000))`,
      );
    // Free pages that a processor keeps for itself count as used: it may keep few.
    await vm.sh(
      `echo 100000 > /proc/sys/vm/percpu_pagelist_high_fraction; insmod /opt/elio/elastio-snap.ko
      mkfs.ext4 -qF -m 0 -T largefile4 -E lazy_itable_init=1,nodiscard,packed_meta_blocks=1 ${origin}
      mkdir -p /t && mount -o noinit_itable ${origin} /t`,
      { timeoutMs },
    );
    const cowMib = Math.ceil(sizeMib / 512) + 64;
    const destroyed = async (): Promise<{ ms: number; mib: number }> => {
      const before = await number(free);
      const ms = await timed('destroy 0');
      return { ms, mib: ((await number(free)) - before) / 1024 };
    };
    const setupMs = await timed(`setup ${origin} /t/cow 0 ${cowMib}`);
    const toIncrementalMs = await timed('inc 0');
    const toSnapshotMs = await timed(`snap /t/cow2 0 ${cowMib}`);
    const { ms: destroyMs, mib: emptyMib } = await destroyed();
    await vm.sh(
      `rm -f /t/cow /t/cow2; ${tool} setup ${origin} /t/cow 0 ${cowMib} && ${tool} inc 0`,
    );
    await vm.sh(sizeMib > metadataMib ? touchDevice(origin, sizeMib) : touchFile(sizeMib), {
      timeoutMs,
    });
    const { mib: fullMib } = await destroyed();
    await vm.checkDmesg();
    return {
      sizeGib: sizeMib / 1024,
      setupMs,
      toIncrementalMs,
      toSnapshotMs,
      destroyMs,
      emptyMib,
      fullMib,
    };
  } finally {
    await vm.stop();
  }
}

/** Measures one size after the other. */
export async function measureSizes(directory: string): Promise<SizeCosts[]> {
  const costs: SizeCosts[] = [];
  for (const sizeMib of sizesMib) costs.push(await measureSize(sizeMib, directory));
  return costs;
}
