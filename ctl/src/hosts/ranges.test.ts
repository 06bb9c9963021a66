// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { expandRanges } from './ranges.js';

describe('ranges of hosts', () => {
  it('count from the first to the last, as wide as the first when it begins with a zero', () => {
    assert.deepEqual(expandRanges('db[08:11].example.com'), [
      'db08.example.com',
      'db09.example.com',
      'db10.example.com',
      'db11.example.com',
    ]);
    assert.deepEqual(expandRanges('web[9:10]'), ['web9', 'web10']);
    assert.deepEqual(expandRanges('web[99:100]'), ['web99', 'web100']);
    assert.deepEqual(expandRanges('web[007:007]'), ['web007']);
  });

  it('multiply when there are several', () => {
    assert.deepEqual(expandRanges('r[1:2]n[1:2]'), ['r1n1', 'r1n2', 'r2n1', 'r2n2']);
  });

  it('leave names and addresses alone', () => {
    for (const name of ['db1', 'db1:7443', '[::1]:7443', '[2001:db8::1]', 'a[b:c]'])
      assert.deepEqual(expandRanges(name), [name]);
  });

  it('are refused when they run backwards or are absurd', () => {
    assert.throws(() => expandRanges('db[12:01]'), /\[12:01\] runs backwards/);
    assert.throws(() => expandRanges('db[1:99999999999]'), /too long/);
    assert.throws(() => expandRanges('a[1:200]b[1:200]'), /more than 10000/);
  });
});
