// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { dataService, whenSerialized } from './block-messages.js';

type Content = NonNullable<ReadBlocksResponse['content']>;

const serialize = dataService.readBlocks.responseSerialize;
const mib = 1 << 20;

describe('messages of blocks', () => {
  const data = Buffer.alloc(mib, 'elio');
  const extents = [
    { offsetBytes: 4096n, lengthBytes: 4096n },
    { offsetBytes: 1n << 44n, lengthBytes: BigInt(mib - 4096) },
  ];
  const contents: Content[] = [
    { $case: 'data', value: { offsetBytes: 1n << 44n, data, crc32: 0xfedcba98 } },
    { $case: 'data', value: { offsetBytes: 0n, data: data.subarray(0, 512), crc32: 0 } },
    { $case: 'scattered', value: { extents, data, crc32: 1 } },
    { $case: 'hole', value: { offsetBytes: 8192n, lengthBytes: 1n << 40n } },
    { $case: 'digests', value: { digests: [{ offsetBytes: 0n, sha256: Buffer.alloc(32, 7) }] } },
  ];

  for (const content of contents) {
    it(`are what was to be sent, ${content.$case}`, () => {
      assert.deepEqual(ReadBlocksResponse.decode(serialize({ content })).content, content);
    });
  }

  it('tell when their data may be overwritten', () => {
    const block = Buffer.alloc(4096, 1);
    const message: ReadBlocksResponse = {
      content: { $case: 'data', value: { offsetBytes: 0n, data: block, crc32: 0 } },
    };
    whenSerialized(message, () => block.fill(2));
    const bytes = serialize(message);
    assert.equal(block[0], 2);
    const { content } = ReadBlocksResponse.decode(bytes);
    assert.ok(content?.$case === 'data' && content.value.data.every((byte) => byte === 1));
  });
});
