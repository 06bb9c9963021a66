// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { blocksOf, ChangeMap } from '../changes/change-map.js';
import { dataService } from './block-messages.js';
import { PIECE_SIZE, streamBlocks } from './block-stream.js';
import { CHUNK_SIZE } from './chunks.js';
import { isSound, piecesIn } from './stream-pieces.js';

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
  async function stream(
    image: Buffer,
    map: ChangeMap,
    skipped = ChangeMap.empty(map.nrBlocks),
  ): Promise<[string, number, number][]> {
    const path = join(directory, 'image');
    await writeFile(path, image);
    const file = await open(path, 'r');
    const seen: [string, number, number][] = [];
    const size = BigInt(image.length);
    let end = 0;
    for await (const { content } of streamBlocks(file, map, size, skipped)) {
      assert.ok(content && content.$case !== 'header' && content.$case !== 'digests');
      assert.ok(isSound(content));
      for (const piece of piecesIn(content)) {
        const { kind, offset } = piece;
        assert.ok(offset >= end, String(offset));
        const length = piece.kind === 'data' ? piece.data.length : piece.length;
        end = offset + length;
        if (kind !== 'data') {
          seen.push([kind, offset, length]);
          if (kind === 'skipped') continue;
          assert.ok(image.subarray(offset, end).every((byte) => byte === 0));
          continue;
        }
        assert.ok(piece.data.equals(image.subarray(offset, end)), String(offset));
        assert.ok(length <= CHUNK_SIZE);
        assert.equal(Math.floor(offset / CHUNK_SIZE), Math.floor((end - 1) / CHUNK_SIZE));
        const before = seen.at(-1);
        if (before?.[0] === 'data' && before[1] + before[2] === offset && offset % CHUNK_SIZE !== 0)
          before[2] += length;
        else seen.push(['data', offset, length]);
      }
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

  it('tells of skipped blocks in their place, and does not read them', async () => {
    const size = 4 * mib + 512;
    const full = ChangeMap.full(blocksOf(BigInt(size)));
    const image = Buffer.alloc(size, 7);
    image.fill(0, mib, 3 * mib);
    const runs = (...pairs: [number, number][]): ChangeMap =>
      ChangeMap.fromRuns(
        full.nrBlocks,
        pairs.map(([first, count]) => ({ first, count })),
      );
    const skipped = runs([0, 1], [300, 16], [316 + 16, 16], [1000, 25]);
    assert.deepEqual(await stream(image, skipped.complement(), skipped), [
      ['skipped', 0, 4096],
      ['data', 4096, mib - 4096],
      ['hole', mib, 44 * 4096],
      ['skipped', 300 * 4096, 65536],
      ['hole', 316 * 4096, 65536],
      ['skipped', 332 * 4096, 65536],
      ['hole', 348 * 4096, (768 - 348) * 4096],
      ['data', 3 * mib, 232 * 4096],
      ['skipped', 1000 * 4096, 24 * 4096 + 512],
    ]);
    assert.deepEqual(await stream(image, ChangeMap.empty(full.nrBlocks), full), [
      ['skipped', 0, size],
    ]);
    // Where nothing can be read nothing is.
    const path = join(directory, 'empty');
    await writeFile(path, '');
    const file = await open(path, 'r');
    for await (const { content } of streamBlocks(
      file,
      ChangeMap.empty(4),
      16384n,
      ChangeMap.full(4),
    ))
      assert.equal(content?.$case, 'skipped');
    await file.close();
  });

  it('reads many small runs in their order', async () => {
    const image = Buffer.alloc(8 * mib);
    for (let block = 0; block < 2048; block += 1)
      image.fill(1 + (block % 251), block * 4096, (block + 1) * 4096);
    const map = ChangeMap.fromRuns(
      2048,
      Array.from({ length: 512 }, (_, i) => ({ first: i * 4, count: 1 + (i % 3) })),
    );
    const seen = await stream(image, map, map.complement());
    assert.equal(seen.length, 1024);
    assert.equal(
      seen.reduce((sum, [, , length]) => sum + length, 0),
      image.length,
    );
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

  it('overwrites no data that are still to be sent', async () => {
    const image = randomBytes(16 * CHUNK_SIZE);
    // Two messages of data for each piece that is read.
    for (let at = 0; at < image.length; at += PIECE_SIZE) image.fill(0, at + 65536, at + 196608);
    const path = join(directory, 'image');
    await writeFile(path, image);
    const file = await open(path, 'r');
    const map = ChangeMap.full(blocksOf(BigInt(image.length)));
    const waiting: ReadBlocksResponse[] = [];
    let end = 0;
    const send = (): void => {
      const message = waiting.shift();
      assert.ok(message);
      const sent = dataService.readBlocks.responseSerialize(message);
      for (const piece of piecesIn(ReadBlocksResponse.decode(sent).content)) {
        assert.equal(piece.offset, end);
        end += piece.kind === 'data' ? piece.data.length : piece.length;
        if (piece.kind === 'data') assert.ok(piece.data.equals(image.subarray(piece.offset, end)));
      }
    };
    for await (const message of streamBlocks(file, map, BigInt(image.length))) {
      waiting.push(message);
      if (waiting.length > 4) send();
    }
    while (waiting.length > 0) send();
    assert.equal(end, image.length);
    await file.close();
  });
});
