// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { formatBytes, formatTable } from './output.js';

describe('output', () => {
  it('says sizes in units of 1024', () => {
    assert.equal(formatBytes(0n), '0 B');
    assert.equal(formatBytes(1023n), '1023 B');
    assert.equal(formatBytes(1536n), '1.5 KiB');
    assert.equal(formatBytes(5n << 40n), '5.0 TiB');
    assert.equal(formatBytes(5000n << 40n), '5000.0 TiB');
  });

  it('aligns columns and leaves no blanks at the end of a line', () => {
    assert.equal(formatTable(['A', 'LONG'], [['wide one', 'x']]), 'A         LONG\nwide one  x');
    assert.equal(formatTable(['A', 'B'], []), 'A  B');
  });
});
