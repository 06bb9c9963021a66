// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Batches } from './semaphore.js';

describe('questions in batches', () => {
  it('are put once for all who came meanwhile, and never answered from before', async () => {
    let asked = 0;
    const gates: (() => void)[] = [];
    const batches = new Batches(async (key: string) => {
      asked += 1;
      const answer = `${key}${String(asked)}`;
      await new Promise<void>((resolve) => gates.push(resolve));
      return answer;
    });
    const first = batches.get('k');
    await new Promise(setImmediate);
    const later = [batches.get('k'), batches.get('k'), batches.get('k')];
    gates.shift()?.();
    assert.equal(await first, 'k1');
    await new Promise(setImmediate);
    gates.shift()?.();
    assert.deepEqual(await Promise.all(later), ['k2', 'k2', 'k2']);
    assert.equal(asked, 2);
  });

  it('tell a failure to those who asked, and to no other', async () => {
    let fails = true;
    const batches = new Batches((key: number) =>
      fails ? Promise.reject(new Error('no')) : Promise.resolve(key),
    );
    await assert.rejects(batches.get(1), /no/);
    fails = false;
    assert.equal(await batches.get(1), 1);
  });
});
