// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { cowDataOffset, cowUsedBytes, smallestCowSizeMib } from './cow-size.js';

const GIB = 1n << 30n;

describe('the size of a COW file', () => {
  it('is header, whole sections of the index, and a block for each change', () => {
    assert.equal(cowDataOffset(1n), 4096n);
    assert.equal(cowDataOffset(4096n), 4096n + 32768n);
    assert.equal(cowDataOffset(16n << 20n), 4096n + 32768n);
    assert.equal(cowDataOffset((16n << 20n) + 4096n), 4096n + 2n * 32768n);
    assert.equal(cowUsedBytes(GIB, 3n), 4096n + 2n * (1n << 20n) + 3n * 4096n);
  });

  it('is in whole MiB, with one for saved blocks, at least', () => {
    assert.equal(smallestCowSizeMib(1n << 20n), 2n);
    assert.equal(smallestCowSizeMib(GIB), 4n);
  });
});
