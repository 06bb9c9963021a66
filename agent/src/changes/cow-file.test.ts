// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rounds } from '../../../integration/harness/length.js';
import { COW_HEADER } from '../driver/layout.js';
import { randomNumbers } from '../testing/random.js';
import { writeCowFile } from '../testing/cow-file.js';
import { readChangeMap, readCowHeader } from './cow-file.js';

const uuid = '00112233445566778899aabbccddeeff';
const block = 4096n;
const seed = Number(process.env['ELIO_SEED'] ?? 1);
const damages = rounds(300, 20_000);

function numbersFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

describe('COW file', () => {
  let directory = '';
  let path = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-cow-'));
    path = join(directory, 'cow');
  });
  after(async () => {
    await rm(directory, { recursive: true });
  });

  it('tells which blocks changed, across sections and reads', async () => {
    const nrEntries = 4096 * 40;
    const changed = [0, 1, 4095, 4096, 131071, 131072, 150000, nrEntries - 1];
    await writeCowFile(path, { uuid, seqId: 3n, nrEntries, changed });
    const map = await readChangeMap(path, uuid, 3n, BigInt(nrEntries) * block);
    assert.deepEqual(
      [...map.runs],
      [
        { first: 0, count: 2 },
        { first: 4095, count: 2 },
        { first: 131071, count: 2 },
        { first: 150000, count: 1 },
        { first: nrEntries - 1, count: 1 },
      ],
    );
  });

  it('has no place for a short last block behind whole sections: it counts as changed', async () => {
    await writeCowFile(path, { uuid, seqId: 1n, nrEntries: 4096, changed: [7] });
    const map = await readChangeMap(path, uuid, 1n, 4096n * block + 512n);
    assert.deepEqual(
      [...map.runs],
      [
        { first: 7, count: 1 },
        { first: 4096, count: 1 },
      ],
    );
  });

  it('ignores entries behind the end of the volume', async () => {
    await writeCowFile(path, { uuid, seqId: 1n, nrEntries: 4096, changed: [5, 900, 4000] });
    const map = await readChangeMap(path, uuid, 1n, 100n * block);
    assert.deepEqual([...map.runs], [{ first: 5, count: 1 }]);
  });

  it('is refused when it is another one, not complete, or cut off', async () => {
    const content = { uuid, seqId: 2n, nrEntries: 8192, changed: [1] };
    const size = 8192n * block;
    await writeCowFile(path, content);
    await assert.rejects(readChangeMap(path, uuid, 1n, size), /not the complete COW file/);
    await assert.rejects(readChangeMap(path, 'f'.repeat(32), 2n, size), /not the complete/);
    await truncate(path, 4096 + 4096 * 8);
    await assert.rejects(readChangeMap(path, uuid, 2n, size), /cut off/);
    await writeCowFile(path, { ...content, clean: false });
    await assert.rejects(readChangeMap(path, uuid, 2n, size), /not the complete/);
    await writeFile(path, 'something else');
    await assert.rejects(readChangeMap(path, uuid, 2n, size), /not the complete/);
  });

  it(`is refused, or read as it is, after each of ${String(damages)} damages`, async function () {
    this.timeout(3600 * 1000);
    const next = randomNumbers(seed);
    const changed = [0, 1, 2, 511, 512, 4000, 4095, 4096, 8191];
    const nrEntries = 8192;
    await writeCowFile(path, { uuid, seqId: 5n, nrEntries, changed });
    const sound = await readFile(path);
    const outcomes = { refused: 0, read: 0 };
    for (let i = 0; i < damages; i++) {
      const damaged = Buffer.from(sound);
      for (let n = 1 + next(3); n > 0; n--) {
        // The header, the entries that say something, and the rest.
        const at = next(2) === 0 ? next(80) : 4096 + next(next(2) === 0 ? 64 : nrEntries * 8);
        damaged.writeUInt8(next(2) === 0 ? next(256) : damaged.readUInt8(at) ^ (1 << next(8)), at);
      }
      const length = next(4) === 0 ? next(damaged.length) : damaged.length;
      await writeFile(path, damaged.subarray(0, length));
      try {
        const map = await readChangeMap(path, uuid, 5n, BigInt(nrEntries) * block);
        const blocks = [...map.runs].flatMap((run) => numbersFrom(run.first, run.count));
        const entries = numbersFrom(0, nrEntries);
        assert.deepEqual(
          blocks,
          entries.filter((entry) => damaged.readBigUInt64LE(4096 + entry * 8) !== 0n),
        );
        assert.equal(BigInt(blocks.length), damaged.readBigUInt64LE(COW_HEADER.nr_changed_blocks));
        outcomes.read++;
      } catch (error) {
        assert.match(String(error), /^Error: .*(not the complete COW file|cut off|is damaged)/);
        outcomes.refused++;
      }
    }
    assert.ok(outcomes.refused > 0 && outcomes.read > 0, JSON.stringify(outcomes));
  });

  it('is refused when a change is missing from its index', async () => {
    await writeCowFile(path, { uuid, seqId: 1n, nrEntries: 4096, changed: [1, 2, 3] });
    const file = await open(path, 'r+');
    await file.write(Buffer.alloc(8), 0, 8, 4096 + 2 * 8);
    await file.close();
    await assert.rejects(readChangeMap(path, uuid, 1n, 4096n * block), /damaged: .* 3 .* 2$/);
  });

  it('has a header that says which snapshot it is of', async () => {
    await writeCowFile(path, { uuid, seqId: 9n, nrEntries: 4096, changed: [1, 2] });
    const file = await open(path, 'r');
    assert.deepEqual(await readCowHeader(file), {
      clean: true,
      uuid,
      seqId: 9n,
      nrChangedBlocks: 2n,
    });
    await file.close();
  });
});
