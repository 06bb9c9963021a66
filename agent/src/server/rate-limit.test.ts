// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { RateLimit } from './rate-limit.js';

describe('a rate limit', () => {
  it('allows two seconds of it at once, then as many as time brings', () => {
    let now = 0;
    const limit = new RateLimit(10, () => now);
    const takeAll = (): number => {
      let taken = 0;
      while (limit.take()) taken += 1;
      return taken;
    };
    assert.equal(takeAll(), 20);
    now += 500;
    assert.equal(takeAll(), 5);
    now += 1_000_000;
    assert.equal(takeAll(), 20);
  });
});
