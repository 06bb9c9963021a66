// SPDX-License-Identifier: Apache-2.0
// write-backup.js FILE full|increment FILL SIZE: writes to a destination as a backup does, so that tests can break it.
import type { Blocks } from '../blocks.js';
import { CHUNK_SIZE } from '../../../../agent/src/services/chunks.js';
import { ORIGIN } from '../../sets/testing/volume.js';
import { Destination } from '../destination.js';
import { atStep } from '../steps.js';

const [file = '', kind = '', fill = '', size = ''] = process.argv.slice(2);
const sizeBytes = Number(size);
const uuid = 'a'.repeat(32);
const nonce = 'b'.repeat(32);

function data(offset: number, length: number): Blocks {
  return { kind: 'data', offset, data: Buffer.alloc(length, Number(fill)) };
}

function* full(): Generator<Blocks> {
  yield data(0, 4096);
  yield data(4096, CHUNK_SIZE - 4096);
  yield { kind: 'hole', offset: CHUNK_SIZE, length: CHUNK_SIZE };
  atStep('half-streamed');
  yield data(2 * CHUNK_SIZE, CHUNK_SIZE);
  yield data(3 * CHUNK_SIZE, sizeBytes - 3 * CHUNK_SIZE);
}

function* increment(): Generator<Blocks> {
  yield data(4096, 4096);
  yield data(CHUNK_SIZE - 4096, 4096);
  yield { kind: 'hole', offset: 2 * CHUNK_SIZE + 4096, length: 12288 };
  atStep('half-streamed');
  yield data(3 * CHUNK_SIZE, sizeBytes - 3 * CHUNK_SIZE);
}

async function* stream(blocks: Iterable<Blocks>): AsyncGenerator<Blocks> {
  for (const piece of blocks) yield await Promise.resolve(piece);
}

const destination = await Destination.open(file, 'write');
if (kind === 'full') {
  await destination.writeFull(stream(full()), sizeBytes, ORIGIN, { uuid, seq_id: 1, nonce });
} else {
  const target = { uuid, seq_id: 2, nonce };
  await destination.writeIncrement(stream(increment()), ORIGIN, target);
}
await destination.close();
