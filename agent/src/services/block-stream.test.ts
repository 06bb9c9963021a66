// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { blocksOf, ChangeMap } from '../changes/change-map.js';
import { streamBlocks } from './block-stream.js';
import { CHUNK_SIZE } from './chunks.js';

describe('stream of blocks', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-stream-'));
  });
  after(async () => {
    await rm(directory, { recursive: true });
  });

  /**
   * What a stream of a map covers, as [kind, offset, length], its data checked against the image. Data that touch in one MiB are
   * one piece here, however many messages they come in.
   */
  async function stream(image: Buffer, map: ChangeMap): Promise<[string, number, number][]> {
    const path = join(directory, 'image');
    await writeFile(path, image);
    const file = await open(path, 'r');
    const seen: [string, number, number][] = [];
    for await (const { content } of streamBlocks(file, map, BigInt(image.length))) {
      assert.ok(content && content.$case !== 'header');
      const offset = Number(content.value.offsetBytes);
      if (content.$case === 'hole') {
        const length = Number(content.value.lengthBytes);
        assert.ok(image.subarray(offset, offset + length).every((byte) => byte === 0));
        seen.push(['hole', offset, length]);
        continue;
      }
      const { data, crc32: checksum } = content.value;
      assert.ok(data.equals(image.subarray(offset, offset + data.length)), String(offset));
      assert.equal(checksum, crc32(data));
      assert.ok(data.length <= CHUNK_SIZE);
      const last = offset + data.length - 1;
      assert.equal(Math.floor(offset / CHUNK_SIZE), Math.floor(last / CHUNK_SIZE));
      const before = seen.at(-1);
      if (before?.[0] === 'data' && before[1] + before[2] === offset && offset % CHUNK_SIZE !== 0)
        before[2] += data.length;
      else seen.push(['data', offset, data.length]);
    }
    await file.close();
    return seen;
  }

  const mib = CHUNK_SIZE;

  it('sends data in messages that do not cross a MiB', async () => {
    const image = Buffer.alloc(2 * mib + 8192, 7);
    const map = ChangeMap.fromRuns(blocksOf(BigInt(image.length)), [{ first: 255, count: 259 }]);
    assert.deepEqual(await stream(image, map), [
      ['data', mib - 4096, 4096],
      ['data', mib, mib],
      ['data', 2 * mib, 8192],
    ]);
  });

  it('sends long runs of zeros as one hole, and short ones as data', async () => {
    const image = Buffer.alloc(5 * mib, 7);
    image.fill(0, mib + 65536, 4 * mib);
    image.fill(0, 4 * mib + 8192, 4 * mib + 12288);
    assert.deepEqual(await stream(image, ChangeMap.full(5 * 256)), [
      ['data', 0, mib],
      ['data', mib, 65536],
      ['hole', mib + 65536, 3 * mib - 65536],
      ['data', 4 * mib, mib],
    ]);
  });

  it('covers a volume that ends within a block', async () => {
    const image = Buffer.alloc(mib + 512, 7);
    assert.deepEqual(await stream(image, ChangeMap.full(257)), [
      ['data', 0, mib],
      ['data', mib, 512],
    ]);
    assert.deepEqual(await stream(Buffer.alloc(mib + 512), ChangeMap.full(257)), [
      ['hole', 0, mib + 512],
    ]);
  });

  it('sends nothing for an empty map', async () => {
    assert.deepEqual(await stream(Buffer.alloc(4096), ChangeMap.empty(1)), []);
  });

  it('fails when the image ends too early', async () => {
    const path = join(directory, 'short');
    await writeFile(path, Buffer.alloc(4096, 1));
    const file = await open(path, 'r');
    const messages = streamBlocks(file, ChangeMap.full(2), 8192n);
    await assert.rejects(messages.next(), /ends at byte 4096/);
    await file.close();
  });
});
