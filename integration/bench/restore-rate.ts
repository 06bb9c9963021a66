// SPDX-License-Identifier: Apache-2.0
// A restore to a host that is near and far.
import { join } from 'node:path';
import { RemoteElioctl } from '../harness/elioctl.js';
import { Fleet } from '../harness/fleet.js';
import { mkfs } from '../scenarios/driver.js';
import { median } from './percentile.js';

export interface RestoreRate {
  roundTripMs: number;
  mibPerSecond: number;
}

const roundTripsMs = [0, 2, 10];
const rounds = 3;
const diskMib = 64;

/** MiB/s of a restore without a zero block, verification included, over connections with these round-trip times, in turns. */
export async function measureRestoreRate(directory: string): Promise<RestoreRate[]> {
  const disks = ['data', 'spare'].map((name) => ({ name, sizeMib: diskMib }));
  const fleet = await Fleet.start({ count: 1, directory, disks });
  try {
    const [host] = fleet.hosts;
    if (!host) throw new Error('the fleet is empty');
    const { vm } = host;
    const [data, spare] = [vm.disk('data'), vm.disk('spare')];
    const file = join(directory, 'data.img');
    await vm.sh(
      `${mkfs('ext4', data)} && mkdir /data && mount ${data} /data && modprobe sch_netem`,
    );
    const elioctl = new RemoteElioctl(host.address, fleet.tls);
    await elioctl.backup('--all', data, file);
    const seconds = roundTripsMs.map(() => [] as number[]);
    for (let round = 0; round < rounds; round += 1) {
      for (const [i, ms] of roundTripsMs.entries()) {
        await vm.sh(`tc qdisc replace dev eth0 root netem delay ${String(ms)}ms limit 100000`);
        const startMs = performance.now();
        await elioctl.check('restore', '--yes', file, spare);
        seconds[i]?.push((performance.now() - startMs) / 1000);
      }
    }
    return roundTripsMs.map((roundTripMs, i) => ({
      roundTripMs,
      mibPerSecond: diskMib / median(seconds[i] ?? []),
    }));
  } finally {
    await fleet.stop();
  }
}
