// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import { isBackedUpUnasked, lastingName } from './candidates.js';

const fs = BlockDevice.fromPartial({ path: '/dev/vdb1', mountPoints: ['/srv'] });

describe('the devices that a fleet backup takes without being told', () => {
  it('are those that are mounted for writing and can be tracked, or are', () => {
    const cases: [boolean, Partial<BlockDevice>][] = [
      [true, {}],
      [true, { minor: 3, refusal: 'it is tracked, as snapshot 3' }],
      [false, { refusal: 'it is a zoned device' }],
      [false, { mountPoints: [] }],
      [false, { mountPoints: [], minor: 3, refusal: 'it is tracked, as snapshot 3' }],
      [false, { readOnly: true }],
    ];
    for (const [expected, more] of cases)
      assert.equal(isBackedUpUnasked({ ...fs, ...more }), expected, JSON.stringify(more));
  });

  it('are called what they are called after a reboot', () => {
    const mapper = '/dev/mapper/vg-root';
    const aliases = ['/dev/disk/by-uuid/1', '/dev/mapper/z', mapper];
    assert.equal(lastingName({ ...fs, aliases, stableId: 'DM_UUID=LVM-1' }), mapper);
    assert.equal(lastingName({ ...fs, stableId: 'PARTUUID=1' }), 'PARTUUID=1');
    assert.equal(lastingName(fs), '/dev/vdb1');
  });
});
