// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { infoText } from './inquiry.js';

const snapshot = Snapshot.fromPartial({
  minor: 4,
  cowFile: '/var/backup/elastio1',
  blockDevice: '/dev/sda1',
  cacheSizeBytes: 10n,
  cowSizeBytes: 10485760n,
  cookie: { seqId: 1n, uuid: 'e86eb4fe68e84b7d90a477e02d1311a3' },
  version: 1n,
  nrChangedBlocks: 1536n,
  error: -27,
  stateBits: 3n,
  cowOnBdev: true,
});

describe('elioctl info', () => {
  it("prints the manual page's JSON", () => {
    const lines = [
      '{',
      '\t"minor": 4,',
      '\t"cow_file": "/var/backup/elastio1",',
      '\t"block_device": "/dev/sda1",',
      '\t"max_cache": 10,',
      '\t"fallocate": 10485760,',
      '\t"seq_id": 1,',
      '\t"uuid": "e86eb4fe68e84b7d90a477e02d1311a3",',
      '\t"version": 1,',
      '\t"nr_changed_blocks": 1536,',
      '\t"error": -27,',
      '\t"state": 3,',
      '\t"ignore_snap_errors": 0,',
      '\t"cow_on_bdev": true',
      '}',
      '',
    ];
    assert.equal(infoText(snapshot), lines.join('\n'));
  });

  it('leaves out what an unverified tracker does not have, and no error', () => {
    const text = infoText({ ...snapshot, error: 0, stateBits: 4n });
    assert.deepEqual(Object.keys(JSON.parse(text) as object), [
      'minor',
      'cow_file',
      'block_device',
      'max_cache',
      'state',
      'ignore_snap_errors',
      'cow_on_bdev',
    ]);
  });

  it('escapes what JSON does not allow in a string', () => {
    const cowFile = '/a "b" \\ c\t';
    const info = JSON.parse(infoText({ ...snapshot, cowFile })) as { cow_file: string };
    assert.equal(info.cow_file, cowFile);
  });
});
