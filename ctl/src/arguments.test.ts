// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { InvalidArgumentError } from 'commander';
import {
  parseBandwidth,
  parseCache,
  parseCount,
  parseMinor,
  parseSeconds,
  parseSize,
} from './arguments.js';

describe('arguments', () => {
  it('take a minor as a decimal number, whatever zeros it begins with', () => {
    assert.equal(parseMinor('0'), 0);
    assert.equal(parseMinor('010'), 10);
    assert.equal(parseMinor('255'), 255);
    for (const bad of ['', '-1', '0x1', '1.5', ' 1', '256', '4294967296', 'one'])
      assert.throws(() => parseMinor(bad), InvalidArgumentError, bad);
  });

  it('take sizes in MiB, or with a suffix', () => {
    assert.equal(parseSize('400'), 400n << 20n);
    assert.equal(parseSize('4K'), 4096n);
    assert.equal(parseSize('3m'), 3n << 20n);
    assert.equal(parseSize('1G'), 1n << 30n);
    for (const bad of ['', '-1', '1T', '1.5G', '0x10', 'G', `1${'0'.repeat(20)}`])
      assert.throws(() => parseSize(bad), InvalidArgumentError, bad);
  });

  it('take a cache as a size, and none that can only be bytes', () => {
    // The memory of this machine does not count.
    assert.equal(parseCache('1048575'), 1048575n << 20n);
    for (const bad of ['1048576', '1024G', '314572800'])
      assert.throws(() => parseCache(bad), /the unit is MiB, not bytes/, bad);
  });

  it('take a bandwidth as a size, and none that would take for ever', () => {
    assert.equal(parseBandwidth('50'), 50 * 2 ** 20);
    assert.equal(parseBandwidth('64k'), 65_536);
    for (const bad of ['63K', '0', '50MB', '50M/s'])
      assert.throws(() => parseBandwidth(bad), InvalidArgumentError, bad);
  });

  it('take a count of at least 1', () => {
    assert.equal(parseCount('4'), 4);
    for (const bad of ['0', '', '-1', '10000']) assert.throws(() => parseCount(bad), bad);
  });

  it('take a time in seconds', () => {
    assert.equal(parseSeconds('2'), 2);
    assert.equal(parseSeconds('0.5'), 0.5);
    for (const bad of ['0', '0.05', '', '-1', '1e3', '1s', '.5'])
      assert.throws(() => parseSeconds(bad), InvalidArgumentError, bad);
  });
});
