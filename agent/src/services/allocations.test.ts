// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { open, writeFile } from 'node:fs/promises';
import { ChangeMap } from '../changes/change-map.js';
import { allocatedIn, Scratch, tool } from '../testing/filesystem-image.js';
import { Allocations, splitByAllocation, type SnapshotImage } from './allocations.js';

const MIB = 1024 * 1024;

describe('allocations', () => {
  let scratch: Scratch;
  let path = '';
  let opened = 0;
  let checked = 0;
  const image = { minor: 3, uuid: 'a', seqId: 1n, sizeBytes: BigInt(16 * MIB) };

  before(async () => {
    scratch = await Scratch.make();
  });
  after(async () => {
    await scratch.remove();
  });
  beforeEach(async () => {
    path = await scratch.file('image', 16 * MIB);
    await tool(['mke2fs', '-q', '-F', '-t', 'ext4', path]);
    opened = 0;
    checked = 0;
  });

  function make(
    check: (image: SnapshotImage) => Promise<void> = () => Promise.resolve(),
  ): Allocations {
    return new Allocations(
      (minor) => {
        assert.equal(minor, image.minor);
        opened += 1;
        return open(path, 'r');
      },
      (of) => {
        checked += 1;
        return check(of);
      },
    );
  }

  it('are read once for a snapshot, however many ask', async () => {
    const allocations = make();
    const [one, other] = await Promise.all([allocations.of(image), allocations.of({ ...image })]);
    assert.equal(one, other);
    assert.ok('map' in one);
    assert.deepEqual([...one.map.runs], [...(await allocatedIn(path)).runs]);
    assert.equal(await allocations.of(image), one);
    assert.deepEqual([opened, checked], [1, 1]);
  });

  it('are read anew for the next snapshot, and of another chain', async () => {
    const allocations = make();
    await allocations.of(image);
    await allocations.of({ ...image, seqId: 2n });
    await allocations.of({ ...image, uuid: 'b', seqId: 2n });
    await allocations.of({ ...image, uuid: 'b', seqId: 2n });
    assert.equal(opened, 3);
  });

  it('are forgotten with the snapshot', async () => {
    const allocations = make();
    await allocations.of(image);
    allocations.keepOnly([image]);
    await allocations.of(image);
    assert.equal(opened, 1);
    allocations.keepOnly([{ ...image, seqId: 2n }]);
    await allocations.of(image);
    assert.equal(opened, 2);
  });

  it('tell why they cannot be told', async () => {
    await writeFile(path, Buffer.alloc(16 * MIB));
    const allocation = await make().of(image);
    assert.ok('reason' in allocation);
    assert.match(allocation.reason, /no filesystem/);
    assert.equal(checked, 1);
  });

  it('are nothing to keep when the snapshot has failed, or cannot be read', async () => {
    let fails = true;
    const allocations = make(() =>
      fails ? Promise.reject(new Error('failed')) : Promise.resolve(),
    );
    await assert.rejects(allocations.of(image), /failed/);
    fails = false;
    assert.ok('map' in (await allocations.of(image)));
    assert.equal(opened, 2);
    await writeFile(path, '');
    await assert.rejects(allocations.of({ ...image, seqId: 2n }), /the device ends at byte 0/);
  });

  it('split what is wanted, and leave short runs of free blocks in it', () => {
    const mapOf = (...pairs: [number, number][]): ChangeMap =>
      ChangeMap.fromRuns(
        1000,
        pairs.map(([first, count]) => ({ first, count })),
      );
    const wanted = mapOf([0, 300], [400, 100]);
    const map = mapOf([0, 10], [25, 5], [46, 4], [280, 150], [990, 10]);
    const split = splitByAllocation(wanted, { map });
    assert.deepEqual([...split.map.runs], [...mapOf([0, 30], [46, 4], [280, 20], [400, 30]).runs]);
    assert.deepEqual([...split.skipped.runs], [...mapOf([30, 16], [50, 230], [430, 70]).runs]);
    for (const unknown of [undefined, { reason: 'none' }]) {
      const all = splitByAllocation(wanted, unknown);
      assert.deepEqual([[...all.map.runs], [...all.skipped.runs]], [[...wanted.runs], []]);
    }
  });
});
