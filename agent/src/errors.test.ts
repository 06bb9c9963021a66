// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { AgentError, toServiceError } from './errors.js';

/** What many clients and proxies take as headers or trailers. */
const TRAILER_LIMIT = 8192;

describe('the status of a call', () => {
  for (const letter of ['a', 'ß', '雪']) {
    it(`fits in trailers however long a path of ${letter} is`, () => {
      const device = `/dev/${letter.repeat(4090)}`;
      const error = new AgentError(status.NOT_FOUND, 'PATH_NOT_FOUND', `${device} is not there`, {
        device,
        cow_file: device,
      });
      const { details, metadata } = toServiceError(error);
      const [binary] = metadata.get('grpc-status-details-bin');
      assert.ok(Buffer.isBuffer(binary));
      // On the wire the message is percent-encoded and the details are in base64.
      const length = encodeURI(details).length + binary.toString('base64').length;
      assert.ok(length < TRAILER_LIMIT, `${String(length)} bytes`);
      assert.match(details, /^\/dev\//);
    });
  }
});
