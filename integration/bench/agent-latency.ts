// SPDX-License-Identifier: Apache-2.0
// What GetSnapshot takes beside a call that asks nothing, of the same agent, with many clients at once.
import { GetSnapshotRequest, SnapshotServiceService } from '../../proto/gen/elio/v1/snapshot.js';
import { Api, type Method } from '../harness/api.js';
import { Fleet } from '../harness/fleet.js';
import { mkfs } from '../scenarios/driver.js';
import { median } from './percentile.js';

export interface AgentLatency {
  /** Medians over all clients and rounds. */
  emptyMs: number;
  getSnapshotMs: number;
  ratio: number;
}

/** GetSnapshot may take that many times what an empty call takes. */
export const agentLatencyTarget = 1.2;

const clients = 50;
const rounds = 6;
const callsOfClient = 10;

/** The agent's health: an empty message that is answered from memory. */
const empty: Method<Buffer, Buffer> = {
  path: '/grpc.health.v1.Health/Check',
  requestStream: false,
  responseStream: false,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: (bytes) => bytes,
  responseDeserialize: (bytes) => bytes,
};

/** How long each call of each client took, in milliseconds; each client waits for its answer before it asks again. */
async function latencies(
  apis: readonly Api[],
  ask: (api: Api) => Promise<unknown>,
): Promise<number[]> {
  const all = await Promise.all(
    apis.map(async (api) => {
      const own: number[] = [];
      for (let i = 0; i < callsOfClient; i += 1) {
        const startMs = performance.now();
        await ask(api);
        own.push(performance.now() - startMs);
      }
      return own;
    }),
  );
  return all.flat();
}

export async function measureAgentLatency(directory: string): Promise<AgentLatency> {
  const fleet = await Fleet.start({ count: 1, directory });
  const [host] = fleet.hosts;
  if (!host) throw new Error('a fleet of no host');
  const apis = Array.from({ length: clients }, () => new Api(host, fleet.tls));
  try {
    const disk = host.vm.disk('data');
    await host.vm.sh(
      `${mkfs('ext4', disk)} && mkdir -p /t && mount ${disk} /t && elioctl setup-snapshot ${disk} /t/cow 0`,
    );
    const getSnapshot = (api: Api): Promise<unknown> =>
      api.call(SnapshotServiceService.getSnapshot, GetSnapshotRequest.fromPartial({ minor: 0 }));
    const askNothing = (api: Api): Promise<unknown> => api.call(empty, Buffer.alloc(0));
    // Connections are made, and code is compiled.
    await latencies(apis, askNothing);
    await latencies(apis, getSnapshot);
    const emptyMs: number[] = [];
    const getSnapshotMs: number[] = [];
    for (let i = 0; i < rounds; i += 1) {
      emptyMs.push(...(await latencies(apis, askNothing)));
      getSnapshotMs.push(...(await latencies(apis, getSnapshot)));
    }
    const medians = { emptyMs: median(emptyMs), getSnapshotMs: median(getSnapshotMs) };
    return { ...medians, ratio: medians.getSnapshotMs / medians.emptyMs };
  } finally {
    for (const api of apis) api.close();
    await fleet.stop();
  }
}
