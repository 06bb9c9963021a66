// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { readAhead } from './read-ahead.js';

async function* numbers(count: number): AsyncGenerator<number> {
  for (let i = 0; i < count; i += 1) yield await Promise.resolve(i);
}

/** Runs tasks that take the longer the earlier they begin; gives what they gave, and how many ran at once. */
async function run(count: number, bytes: number): Promise<{ results: number[]; most: number }> {
  let running = 0;
  let most = 0;
  const results: number[] = [];
  const task = async (item: number): Promise<number> => {
    running += 1;
    most = Math.max(most, running);
    await sleep(5 - (item % 5));
    running -= 1;
    return item;
  };
  for await (const result of readAhead(numbers(count), () => bytes, task)) results.push(result);
  return { results, most };
}

describe('reading ahead', () => {
  it('gives all results in order, of tasks that run side by side within bounds', async () => {
    const expected = Array.from({ length: 1000 }, (_, i) => i);
    const small = await run(1000, 4096);
    assert.deepEqual(small.results, expected);
    assert.ok(small.most > 16 && small.most <= 257, String(small.most));
    const large = await run(100, 4 << 20);
    assert.deepEqual(large.results, expected.slice(0, 100));
    assert.ok(large.most > 1 && large.most <= 4, String(large.most));
    // What is larger than all that may be held goes alone.
    assert.equal((await run(10, 100 << 20)).most, 1);
  });

  it('ends with the first failure in order, and nothing of the others is left', async () => {
    const results: number[] = [];
    const task = async (item: number): Promise<number> => {
      await sleep(item === 3 ? 20 : 1);
      if (item >= 3) throw new Error(`task ${String(item)}`);
      return item;
    };
    const all = async (): Promise<void> => {
      for await (const result of readAhead(numbers(10), () => 1, task)) results.push(result);
    };
    await assert.rejects(all(), /task 3/);
    assert.deepEqual(results, [0, 1, 2]);
  });
});
