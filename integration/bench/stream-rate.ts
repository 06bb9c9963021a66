// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { RemoteElioctl } from '../harness/elioctl.js';
import { Fleet } from '../harness/fleet.js';

export interface StreamRate {
  sentMib: number;
  seconds: number;
  mibPerSecond: number;
}

const diskMib = 128;

/** How fast a full backup streams from a test machine over mTLS; no block of it is zero. */
export async function measureStreamRate(directory: string): Promise<StreamRate> {
  const disks = [{ name: 'data', sizeMib: diskMib }];
  const fleet = await Fleet.start({ count: 1, directory, disks });
  try {
    const [host] = fleet.hosts;
    if (!host) throw new Error('the fleet is empty');
    const data = host.vm.disk('data');
    await host.vm.sh(`mkfs.ext4 -q -E nodiscard ${data} && mkdir /data && mount ${data} /data`);
    const elioctl = new RemoteElioctl(host.address, fleet.tls);
    const { sent_bytes: sentBytes, seconds } = await elioctl.backup(
      data,
      join(directory, 'data.img'),
    );
    const sentMib = sentBytes / (1 << 20);
    return { sentMib, seconds, mibPerSecond: sentMib / seconds };
  } finally {
    await fleet.stop();
  }
}
