// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomNumbers } from '../testing/random.js';
import { crc16 } from './crc16.js';
import { crc32c, crc32cRegister } from './crc32c.js';

describe('checksums of filesystems', () => {
  it('CRC-32C: the examples of RFC 3720', () => {
    const ascending = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
    assert.equal(crc32c(Buffer.alloc(32)), 0x8a91_36aa);
    assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8_ab43);
    assert.equal(crc32c(ascending), 0x46dd_794e);
    assert.equal(crc32c(Buffer.from(ascending).reverse()), 0x113f_db5c);
    assert.equal(crc32c(Buffer.from('123456789')), 0xe306_9283);
    assert.equal(crc32c(), 0);
  });

  it('CRC-16: the usual example', () => {
    assert.equal(crc16(0, Buffer.from('123456789')), 0xbb3d);
  });

  it('are the same in one piece and in several', () => {
    const below = randomNumbers(7);
    const data = Buffer.from(Array.from({ length: 1000 }, () => below(256)));
    for (let round = 0; round < 100; round += 1) {
      const cut = below(data.length + 1);
      const [a, b] = [data.subarray(0, cut), data.subarray(cut)];
      assert.equal(crc32c(a, b), crc32c(data));
      assert.equal(crc32cRegister(crc32cRegister(5, a), b), crc32cRegister(5, data));
      assert.equal(crc16(crc16(5, a), b), crc16(5, data));
    }
  });
});
