// SPDX-License-Identifier: Apache-2.0
// memory-stream.js ADDRESS BYTES: an agent whose only answer is ReadBlocks, with so many bytes out of its memory, in the same
// messages and with the same checksums as a real one: what a stream costs without a device.
import { crc32 } from 'node:zlib';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { loadConfig } from '../config.js';
import { createLog } from '../log.js';
import { AgentServer, type Services } from '../server/server.js';
import { serverStream } from '../server/rpc.js';
import { PIECE_SIZE } from '../services/block-stream.js';
import { withDigests } from '../services/stream-digests.js';

const [address = '', bytes = ''] = process.argv.slice(2);
const total = Number(bytes);

function* messages(): Generator<ReadBlocksResponse> {
  const volumeSizeBytes = BigInt(total);
  yield {
    content: {
      $case: 'header',
      value: {
        cookie: undefined,
        volumeSizeBytes,
        totalBytes: volumeSizeBytes,
        allocatedKnown: false,
        allocatedUnknownReason: '',
        skippedBytes: 0n,
      },
    },
  };
  const data = Buffer.alloc(PIECE_SIZE, 0xa5);
  for (let offset = 0; offset < total; offset += PIECE_SIZE) {
    const value = { offsetBytes: BigInt(offset), data, crc32: crc32(data) };
    yield { content: { $case: 'data', value } };
  }
}

/** Nothing of the service can be called. */
const none = { handlers: () => ({}) as never };
const services: Services = {
  snapshots: none,
  hosts: none,
  changes: none,
  events: none,
  restores: none,
  data: { handlers: () => ({ readBlocks: serverStream(() => withDigests(messages())) }) },
};
const config = await loadConfig(undefined);
const server = new AgentServer(createLog('warn'), config.limits, () => undefined, services);
await server.listenTcp(address, config.tls);
