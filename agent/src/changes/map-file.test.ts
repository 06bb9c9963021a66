// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { ChangeMap } from './change-map.js';
import { parseChangeMap, serializeChangeMap } from './map-file.js';

/** Bytes as a file would give them, so many at a time. */
function parts(bytes: Buffer, size: number): Readable {
  const all: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) all.push(bytes.subarray(at, at + size));
  return Readable.from(all);
}

describe('change map as a file', () => {
  const nrBlocks = 2 ** 33;
  const map = ChangeMap.fromRuns(nrBlocks, [
    { first: 1, count: 2 },
    ...Array.from({ length: 10_000 }, (_, i) => ({ first: 100 + 2 * i, count: 1 })),
    { first: 2 ** 32 - 1, count: 2 ** 32 },
  ]);
  const small = ChangeMap.fromRuns(100, [
    { first: 1, count: 2 },
    { first: 50, count: 50 },
  ]);

  it('is read as it was written, in whatever parts it comes', async () => {
    const bytes = Buffer.concat([...serializeChangeMap(map)]);
    for (const size of [7, 24, 4096, 65536, bytes.length]) {
      const read = await parseChangeMap(parts(bytes, size));
      assert.equal(read.nrBlocks, nrBlocks);
      assert.deepEqual([...read.runs], [...map.runs]);
    }
    const empty = await parseChangeMap(Readable.from([...serializeChangeMap(ChangeMap.empty(5))]));
    assert.equal(empty.runs.length, 0);
  });

  it('is refused when it is damaged', async () => {
    const bytes = Buffer.concat([...serializeChangeMap(small)]);
    for (let i = 0; i < bytes.length; i += 1) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(i) ^ 4, i);
      await assert.rejects(parseChangeMap(parts(damaged, 16)), /damaged/, String(i));
      await assert.rejects(parseChangeMap(parts(bytes.subarray(0, i), 16)), /damaged/, String(i));
    }
    const longer = Buffer.concat([bytes, Buffer.alloc(16)]);
    await assert.rejects(parseChangeMap(parts(longer, 16)), /damaged/);
  });
});
