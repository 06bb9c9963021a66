// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import {
  mkdtemp,
  open,
  readFile,
  rm,
  truncate,
  writeFile,
  type FileHandle,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeCowFile } from '../../agent/src/testing/cow-file.js';
import { randomNumbers } from '../../agent/src/testing/random.js';
import { rounds } from '../../integration/harness/length.js';
import { UpdateError, updateImage } from './image-update.js';

const block = 4096;
const nrEntries = 4096;
/** The last block is a short one. */
const nrBlocks = 300;
const sizeBytes = nrBlocks * block - 512;
const uuid = '00112233445566778899aabbccddeeff';
const snapshot = { uuid, seqId: 6n };
const changed = [0, 1, 2, 100, 255, 256, nrBlocks - 1];
const seed = Number(process.env['ELIO_SEED'] ?? 1);
const damages = rounds(300, 20_000);

describe('an image that is updated', () => {
  let directory = '';
  let cowFile = '';
  let imageFile = '';
  let source: FileHandle;
  const random = randomNumbers(seed);
  const [old, now] = [1, 2].map(() =>
    Buffer.from(Array.from({ length: sizeBytes }, () => random(256))),
  ) as [Buffer, Buffer];

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-update-'));
    cowFile = join(directory, 'cow');
    imageFile = join(directory, 'image');
    await writeFile(join(directory, 'source'), now);
    source = await open(join(directory, 'source'), 'r');
  });
  beforeEach(async () => {
    await writeCowFile(cowFile, { uuid, seqId: 5n, nrEntries, changed });
    await writeFile(imageFile, old);
  });
  after(async () => {
    await source.close();
    await rm(directory, { recursive: true });
  });

  const update = (): Promise<number> =>
    updateImage(source, snapshot, BigInt(sizeBytes), cowFile, imageFile);

  function expected(blocks: readonly number[]): Buffer {
    const image = Buffer.from(old);
    for (const at of blocks) now.copy(image, at * block, at * block, (at + 1) * block);
    return image;
  }

  it('has the blocks that the COW file names, and no others', async () => {
    assert.equal(await update(), changed.length);
    assert.ok((await readFile(imageFile)).equals(expected(changed)));
  });

  it('is not touched where the COW file is another one or not complete, or the image of another size', async () => {
    const content = { uuid, seqId: 5n, nrEntries, changed };
    const refusals: [Parameters<typeof writeCowFile>[1], RegExp][] = [
      [{ ...content, seqId: 4n }, /is of snapshot 4, and 5 is needed/],
      [{ ...content, uuid: 'f'.repeat(32) }, /another chain/],
      [{ ...content, clean: false }, /not complete/],
    ];
    for (const [wrong, message] of refusals) {
      await writeCowFile(cowFile, wrong);
      await assert.rejects(update(), message);
    }
    await writeFile(cowFile, 'something else');
    await assert.rejects(update(), /is no COW file/);
    assert.ok((await readFile(imageFile)).equals(old));
    await truncate(imageFile, sizeBytes - 512);
    await writeCowFile(cowFile, content);
    await assert.rejects(update(), /it is no image of it/);
  });

  it('says that it is half updated where the snapshot cannot be read on', async () => {
    const short = join(directory, 'short');
    await writeFile(short, now.subarray(0, 200 * block));
    const broken = await open(short, 'r');
    await assert.rejects(
      updateImage(broken, snapshot, BigInt(sizeBytes), cowFile, imageFile),
      (error) =>
        error instanceof UpdateError && error.message.includes('a part of the changes only'),
    );
    await broken.close();
    assert.equal(await update(), changed.length);
    assert.ok((await readFile(imageFile)).equals(expected(changed)));
  });

  it(`is as it was, or has what the COW file names, after each of ${String(damages)} damages to that`, async function () {
    this.timeout(3600 * 1000);
    const next = randomNumbers(seed);
    const sound = await readFile(cowFile);
    const outcomes = { refused: 0, updated: 0 };
    for (let i = 0; i < damages; i++) {
      const damaged = Buffer.from(sound);
      for (let n = 1 + next(3); n > 0; n--) {
        const at = next(2) === 0 ? next(80) : block + next(nrBlocks * 8);
        damaged.writeUInt8(next(2) === 0 ? next(256) : damaged.readUInt8(at) ^ (1 << next(8)), at);
      }
      await writeFile(
        cowFile,
        damaged.subarray(0, next(4) === 0 ? next(damaged.length) : undefined),
      );
      await writeFile(imageFile, old);
      let named: number[] = [];
      try {
        const count = await update();
        named = Array.from({ length: nrBlocks }, (_, at) => at).filter(
          (at) => damaged.readBigUInt64LE(block + at * 8) !== 0n,
        );
        assert.equal(count, named.length);
        outcomes.updated++;
      } catch (error) {
        assert.match(
          String(error),
          /^Error: .*(no COW file|another chain|is needed|not complete|cut off|is damaged)/,
        );
        outcomes.refused++;
      }
      assert.ok((await readFile(imageFile)).equals(expected(named)), `damage ${String(i)}`);
    }
    assert.ok(outcomes.refused > 0 && outcomes.updated > 0, JSON.stringify(outcomes));
  });
});
