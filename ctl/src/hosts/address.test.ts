// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { formatHostAddress, parseHostAddress } from './address.js';

describe("an agent's address", () => {
  it('has a port, or the default one', () => {
    const cases = [
      ['db1', 'db1:7443'],
      ['db1.example.com:8000', 'db1.example.com:8000'],
      ['10.0.0.7', '10.0.0.7:7443'],
      ['::1', '[::1]:7443'],
      ['[::1]', '[::1]:7443'],
      ['[2001:db8::1]:8000', '[2001:db8::1]:8000'],
    ] as const;
    for (const [text, expected] of cases) {
      const address = parseHostAddress(text);
      assert.ok(address, text);
      assert.equal(formatHostAddress(address), expected);
    }
  });

  it('is refused when it can be none', () => {
    for (const bad of [
      '',
      'a b',
      'db1:',
      'db1:0',
      'db1:65536',
      'db1:x',
      '[db1]',
      'db[1-3]',
      'a:1:2',
    ])
      assert.equal(parseHostAddress(bad), undefined, bad);
  });
});
