// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { refusalOf, type DeviceFacts } from './refusal.js';

const sound: DeviceFacts = {
  filesystem: 'ext4',
  readOnly: false,
  minor: undefined,
  zoned: false,
  swap: false,
  holders: [],
};

describe('why a device cannot be snapshotted', () => {
  it('is nothing when it can', () => {
    assert.equal(refusalOf(sound), '');
    assert.equal(refusalOf({ ...sound, filesystem: 'xfs' }), '');
  });

  it('names what stands against it', () => {
    const refused: [Partial<DeviceFacts>, RegExp][] = [
      [{ minor: 4 }, /tracked, as snapshot 4/],
      [{ zoned: true }, /zoned/],
      [{ filesystem: '', swap: true }, /swap/],
      [{ filesystem: '' }, /mount it/],
      [{ filesystem: '', holders: ['/dev/dm-0'] }, /part of \/dev\/dm-0/],
      [{ filesystem: 'btrfs' }, /is btrfs/],
      [{ readOnly: true }, /remount it/],
    ];
    for (const [facts, message] of refused)
      assert.match(refusalOf({ ...sound, ...facts }), message, JSON.stringify(facts));
  });
});
