// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { startingBlock } from './positions.js';

describe('where a stream begins', () => {
  it('is a whole block, or the end of a volume', () => {
    assert.equal(startingBlock(0n, 10_240n), 0);
    assert.equal(startingBlock(8192n, 10_240n), 2);
    // The last block is not a whole one: nothing is left behind it.
    assert.equal(startingBlock(10_240n, 10_240n), 3);
    assert.throws(() => startingBlock(512n, 10_240n), /multiple of 4096/);
    assert.throws(() => startingBlock(12_288n, 10_240n), /behind the end/);
  });
});
