// SPDX-License-Identifier: Apache-2.0
// Streams over mTLS: of an image, beside the same messages out of memory; and an incremental backup beside a full one.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BackupResult } from '../../ctl/src/backup/backup.js';
import { DataServiceService, ReadBlocksRequest } from '../../proto/gen/elio/v1/data.js';
import { WINDOW_SIZE } from '../../ctl/src/connection.js';
import { Api } from '../harness/api.js';
import { RemoteElioctl } from '../harness/elioctl.js';
import { Fleet, type FleetHost } from '../harness/fleet.js';
import { mkfs } from '../scenarios/driver.js';
import { median } from './percentile.js';

export interface StreamRate {
  /** Medians of the rounds: bytes of data, without any zero block. */
  imageMibPerSecond: number;
  memoryMibPerSecond: number;
  ratio: number;
  /** Processor time of the agent, user and system. */
  imageCpuSecondsPerGib: number;
  memoryCpuSecondsPerGib: number;
}

/** Medians of the rounds: what was sent, and how long it took from the snapshot to the end. */
export interface IncrementalTime {
  fullMib: number;
  fullSeconds: number;
  incrementalMib: number;
  incrementalSeconds: number;
}

/** A stream of an image has at least that part of the rate of one from memory. */
export const streamRateTarget = 0.85;

/** Most seconds of an incremental backup of 1 % changed blocks. */
export function incrementalTarget(fullSeconds: number): number {
  return 0.04 * fullSeconds + 1;
}

const rounds = 5;
const streamMib = 64;
const incrementalRounds = 3;
const incrementalsPerFull = 3;
const incrementalMib = 1024;
/** What is overwritten on it. */
const fileMib = 800;
const memoryPort = 7444;
const memoryAgent = '/opt/elio/dist/agent/src/testing/memory-stream.js';

/** Processor seconds that a process of a guest has taken, by a file with its pid. */
async function cpuSeconds({ vm }: FleetHost, pidFile: string): Promise<number> {
  const times = await vm.sh(`cut -d ' ' -f 14,15 /proc/$(cat ${pidFile})/stat && getconf CLK_TCK`);
  const [user = 0, system = 0, ticks = NaN] = times.split(/\s+/).map(Number);
  return (user + system) / ticks;
}

interface Reading {
  mib: number;
  seconds: number;
}

/** Reads all that an agent streams of tracker 0. */
async function readAll(api: Api): Promise<Reading> {
  const startMs = performance.now();
  let bytes = 0;
  const request = ReadBlocksRequest.fromPartial({ minor: 0 });
  const { messages } = api.stream(DataServiceService.readBlocks, request);
  for await (const { content } of messages) {
    if (content?.$case === 'data' || content?.$case === 'scattered')
      bytes += content.value.data.length;
  }
  return { mib: bytes / (1 << 20), seconds: (performance.now() - startMs) / 1000 };
}

/** Streams of an image and out of memory in turns. */
export async function measureStreamRate(directory: string): Promise<StreamRate> {
  const disks = [{ name: 'data', sizeMib: streamMib }];
  const fleet = await Fleet.start({ count: 1, directory, disks, forwardPorts: [memoryPort] });
  const [host] = fleet.hosts;
  if (!host) throw new Error('the fleet is empty');
  const { vm } = host;
  const image = new Api(host, fleet.tls, 'admin', WINDOW_SIZE);
  const address = `127.0.0.1:${String(vm.hostPort(memoryPort))}`;
  const memory = new Api({ ...host, address }, fleet.tls, 'admin', WINDOW_SIZE);
  try {
    await vm.sh(
      `${mkfs('ext4', vm.disk('data'))} && mkdir /data && mount ${vm.disk('data')} /data &&
       elioctl setup-snapshot ${vm.disk('data')} /data/cow 0`,
    );
    const { mib } = await readAll(image);
    await vm.sh(
      `node ${memoryAgent} 0.0.0.0:${String(memoryPort)} ${String(mib * (1 << 20))} \
         < /dev/null > /var/log/memory-stream.log 2>&1 & echo $! > /run/memory-stream.pid
       until [ -n "$(ss -Hltn 'sport = :${String(memoryPort)}')" ]; do kill -0 $(cat /run/memory-stream.pid) || exit 1; sleep 1; done`,
    );
    await readAll(memory);
    const sources = [
      { api: image, pidFile: '/run/eliod.pid', rates: [] as number[], cpu: 0 },
      { api: memory, pidFile: '/run/memory-stream.pid', rates: [] as number[], cpu: 0 },
    ];
    for (let round = 0; round < rounds; round += 1) {
      for (const source of sources) {
        const before = await cpuSeconds(host, source.pidFile);
        const { seconds } = await readAll(source.api);
        source.rates.push(mib / seconds);
        source.cpu += (await cpuSeconds(host, source.pidFile)) - before;
      }
    }
    const [ofImage, ofMemory] = sources;
    if (!ofImage || !ofMemory) throw new Error('nothing was read');
    const imageMibPerSecond = median(ofImage.rates);
    const memoryMibPerSecond = median(ofMemory.rates);
    const gib = (rounds * mib) / 1024;
    return {
      imageMibPerSecond,
      memoryMibPerSecond,
      ratio: imageMibPerSecond / memoryMibPerSecond,
      imageCpuSecondsPerGib: ofImage.cpu / gib,
      memoryCpuSecondsPerGib: ofMemory.cpu / gib,
    };
  } finally {
    image.close();
    memory.close();
    await fleet.stop();
  }
}

/** Full backups of 1 GiB without a zero block, and incremental ones when 1 % of its blocks, at random places, have changed, in turns. */
export async function measureIncrementalTime(directory: string): Promise<IncrementalTime> {
  const disks = [{ name: 'data', sizeMib: incrementalMib }];
  const fleet = await Fleet.start({ count: 1, directory, disks });
  try {
    const [host] = fleet.hosts;
    if (!host) throw new Error('the fleet is empty');
    const { vm } = host;
    const data = vm.disk('data');
    await vm.sh(
      `${mkfs('ext4', data)} && mkdir /data && mount ${data} /data && fallocate -l ${String(fileMib)}M /data/file`,
    );
    const elioctl = new RemoteElioctl(host.address, fleet.tls);
    const fulls: BackupResult[] = [];
    const incrementals: BackupResult[] = [];
    for (let round = 0; round <= incrementalRounds; round += 1) {
      const set = join(directory, `set-${String(round)}/`);
      const full = await elioctl.backup(data, set);
      const since: BackupResult[] = [];
      for (let i = 0; i < incrementalsPerFull; i += 1) {
        const seed = String(round * incrementalsPerFull + i);
        await vm.sh(
          `fio --name=w --filename=/data/file --rw=randwrite --bs=4k --size=${String(fileMib)}M --io_size=${String(incrementalMib * 10)}k \
             --direct=1 --ioengine=libaio --iodepth=16 --randseed=${seed} --fallocate=none > /dev/null && sync`,
          { timeoutMs: 10 * 60_000 },
        );
        since.push(await elioctl.backup(data, set));
      }
      // The first round warms the agent up.
      if (round > 0) fulls.push(full);
      if (round > 0) incrementals.push(...since);
      await rm(set, { recursive: true });
    }
    const of = (results: readonly BackupResult[], key: 'seconds' | 'sent_bytes'): number =>
      median(results.map((result) => result[key]));
    return {
      fullMib: of(fulls, 'sent_bytes') / (1 << 20),
      fullSeconds: of(fulls, 'seconds'),
      incrementalMib: of(incrementals, 'sent_bytes') / (1 << 20),
      incrementalSeconds: of(incrementals, 'seconds'),
    };
  } finally {
    await fleet.stop();
  }
}
