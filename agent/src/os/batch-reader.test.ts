// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BatchReader, type Read } from './batch-reader.js';
import { alignedBuffer, openDirect } from './direct-io.js';

const BLOCK = 4096;
const BLOCKS = 3000;

describe('reads in batches', () => {
  const content = randomBytes(BLOCKS * BLOCK);
  let directory = '';
  let path = '';
  before(async () => {
    // Not in a tmpfs, which may have no direct I/O.
    directory = await mkdtemp(join(tmpdir(), 'elio-batch-'));
    path = join(directory, 'file');
    await writeFile(path, content);
  });
  after(async () => {
    await rm(directory, { recursive: true });
  });

  function readsOf(blocks: readonly number[]): Read[] {
    const all = alignedBuffer(blocks.length * BLOCK);
    return blocks.map((block, i) => ({
      position: block * BLOCK,
      data: all.subarray(i * BLOCK, (i + 1) * BLOCK),
    }));
  }

  function check(reads: readonly Read[]): void {
    for (const { position, data } of reads) {
      assert.ok(data.equals(content.subarray(position, position + data.length)), String(position));
    }
  }

  for (const [way, openFile] of [
    ['past the page cache', openDirect],
    ['through it', (name: string) => open(name, 'r')],
  ] as const) {
    it(`are right ${way}, of any number and several at once`, async () => {
      const file = await openFile(path);
      const reader = new BatchReader(file);
      const sizes = [1, 2, 127, 128, 129, 1000];
      const all = sizes.map((size) => readsOf(Array.from({ length: size }, (_, i) => 3 * i)));
      await Promise.all(all.map((reads) => reader.read(reads)));
      await reader.read([]);
      await reader.close();
      await file.close();
      all.forEach(check);
    });
  }

  it('fail where the file ends, and others do not', async () => {
    const file = await openDirect(path);
    const reader = new BatchReader(file);
    const beyond = readsOf([1, BLOCKS, 2]);
    const fine = readsOf([4, 5]);
    const results = await Promise.allSettled([reader.read(beyond), reader.read(fine)]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['rejected', 'fulfilled'],
    );
    check(fine);
    await assert.rejects(reader.read(readsOf([BLOCKS, BLOCKS + 1])), /ends at byte/);
    await reader.close();
    await file.close();
  });

  it('say which error there was', async () => {
    const file = await open(path, 'a');
    const reader = new BatchReader(file);
    await assert.rejects(reader.read(readsOf([0, 1])), { code: 'EBADF' });
    await reader.close();
    await file.close();
  });

  it('leave nothing when a reader is closed with reads under way', async () => {
    const file = await openDirect(path);
    for (let i = 0; i < 20; i += 1) {
      const reader = new BatchReader(file);
      const reads = readsOf([1, 5, 9]);
      const done = reader.read(reads);
      await reader.close();
      await done;
      check(reads);
    }
    await file.close();
  });
});
