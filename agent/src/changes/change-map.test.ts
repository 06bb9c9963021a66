// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { blocksOf, ChangeMap, extentOf } from './change-map.js';

function mapOf(...runs: [number, number][]): ChangeMap {
  return ChangeMap.fromRuns(
    100,
    runs.map(([first, count]) => ({ first, count })),
  );
}

describe('change map', () => {
  it('joins runs that touch or overlap, and ends with the volume', () => {
    assert.deepEqual(
      [...mapOf([0, 2], [2, 3], [4, 4], [20, 0], [95, 20]).runs],
      [
        { first: 0, count: 8 },
        { first: 95, count: 5 },
      ],
    );
  });

  it('unites two maps, whichever way round', () => {
    const a = mapOf([0, 4], [10, 5], [50, 1]);
    const b = mapOf([3, 3], [15, 1], [60, 2]);
    const united = [
      { first: 0, count: 6 },
      { first: 10, count: 6 },
      { first: 50, count: 1 },
      { first: 60, count: 2 },
    ];
    assert.deepEqual([...a.union(b).runs], united);
    assert.deepEqual([...b.union(a).runs], united);
    assert.deepEqual([...a.union(ChangeMap.empty(100)).runs], [...a.runs]);
    assert.deepEqual([...ChangeMap.full(100).union(a).runs], [...ChangeMap.full(100).runs]);
    assert.throws(() => a.union(ChangeMap.empty(99)), /different sizes/);
  });

  it('agrees with sets of blocks, for random maps', () => {
    let seed = 12345;
    const below = (n: number): number => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % n;
    };
    const random = (): ChangeMap => {
      const runs: { first: number; count: number }[] = [];
      for (let at = below(20); at < 100; at += 1 + below(20)) {
        runs.push({ first: at, count: 1 + below(12) });
      }
      return ChangeMap.fromRuns(100, runs);
    };
    const blocks = (map: ChangeMap): Set<number> =>
      new Set([...map.runs].flatMap((r) => Array.from({ length: r.count }, (_, i) => r.first + i)));
    for (let round = 0; round < 500; round += 1) {
      const [a, b] = [random(), random()];
      const all = Array.from({ length: 100 }, (_, block) => block);
      assert.deepEqual(
        all.filter((block) => a.has(block)),
        [...blocks(a)],
      );
      const both = new Set([...blocks(a), ...blocks(b)]);
      assert.deepEqual(
        [...blocks(a.union(b))],
        [...both].sort((x, y) => x - y),
      );
      assert.deepEqual(
        [...blocks(a.intersection(b))],
        [...blocks(a)].filter((block) => blocks(b).has(block)),
      );
      assert.deepEqual(
        [...blocks(a.complement())],
        [...blocks(ChangeMap.full(100))].filter((block) => !blocks(a).has(block)),
      );
      const gap = below(8);
      const filled = a.withoutGapsBelow(gap);
      assert.deepEqual([...filled.intersection(a).runs], [...a.runs]);
      for (const { first, count } of filled.intersection(a.complement()).runs) {
        assert.ok(count < gap, `${first} ${count} ${gap}`);
      }
      const inner = [...a.complement().runs].filter((r) => r.first > 0 && r.first + r.count < 100);
      assert.equal(filled.runs.length, a.runs.length - inner.filter((r) => r.count < gap).length);
      const from = below(110);
      assert.deepEqual(
        [...blocks(a.from(from))],
        [...blocks(a)].filter((block) => block >= from),
      );
    }
  });

  it('covers bytes, of a last block that is short too', () => {
    const sizeBytes = 3n * 4096n + 512n;
    assert.equal(blocksOf(sizeBytes), 4);
    const full = ChangeMap.full(4);
    assert.equal(full.coveredBytes(sizeBytes), sizeBytes);
    assert.deepEqual(extentOf({ first: 3, count: 1 }, sizeBytes), {
      offsetBytes: 12288n,
      lengthBytes: 512n,
    });
  });
});
