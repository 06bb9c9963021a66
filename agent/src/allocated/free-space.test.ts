// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { FreeSpace } from './free-space.js';
import { AllocationUnknownError } from './unknown.js';

describe('free space', () => {
  const runsOf = (free: FreeSpace): number[][] =>
    [...free.allocated().runs].map(({ first, count }) => [first, count]);

  it('is nothing until it is said', () => {
    assert.deepEqual(runsOf(new FreeSpace(10)), [[0, 10]]);
  });

  it('is of whole blocks, and joins what touches', () => {
    const free = new FreeSpace(10);
    free.add(1024, 4096);
    free.add(4096, 4096 + 2048);
    free.add(4096 + 2048, 3 * 4096 + 1024);
    free.add(5 * 4096 - 1024, 6 * 4096 - 1024);
    free.add(7 * 4096, 9 * 4096);
    assert.deepEqual(runsOf(free), [
      [0, 1],
      [3, 4],
      [9, 1],
    ]);
  });

  it('can be all there is', () => {
    const free = new FreeSpace(3);
    free.add(0, 3 * 4096);
    assert.deepEqual(runsOf(free), []);
  });

  it('is refused when it overlaps itself or goes back', () => {
    const free = new FreeSpace(10);
    free.add(4096, 8192);
    for (const [start, end] of [
      [0, 4096],
      [8191, 9000],
      [9000, 9000],
      [9000, 8999],
    ] as const)
      assert.throws(() => {
        free.add(start, end);
      }, AllocationUnknownError);
  });

  it('forgets the smallest runs when there are too many', () => {
    const free = new FreeSpace(1000, 8);
    const lengths = Array.from({ length: 40 }, (_, i) => 1 + ((i * 7) % 16));
    lengths.forEach((length, i) => {
      free.add(i * 20 * 4096, (i * 20 + length) * 4096);
    });
    const { runs } = free.allocated();
    assert.ok(runs.length <= 9, String(runs.length));
    const kept = new Set([...runs].map(({ first }) => first));
    // All that is left are runs that were said to be free, and the longest ones are among them.
    for (const first of kept)
      assert.ok(first === 0 || lengths[Math.floor(first / 20)] === first % 20);
    lengths.forEach((length, i) => {
      if (length === 16) assert.ok(kept.has(i * 20 + length), String(i));
    });
  });
});
