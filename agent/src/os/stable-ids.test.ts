// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { idsOf, isStableId, parseUdevData } from './stable-ids.js';

describe('stable ids of block devices', () => {
  it('are told from paths', () => {
    assert.ok(isStableId('PARTUUID=0f0f-01'));
    assert.ok(isStableId('DM_UUID=LVM-abc'));
    assert.ok(!isStableId('/dev/vdb'));
    assert.ok(!isStableId('UUID=5e5e'));
  });

  it('are what udev keeps, without what a copy has, too', () => {
    const udev = parseUdevData(
      'S:disk/by-id/x\nI:123\nE:ID_FS_UUID=5e5e\nE:ID_PART_ENTRY_UUID=aa-02\nE:ID_SERIAL=disk=1\nE:ID_WWN=0x5\nG:systemd\n',
    );
    assert.deepEqual(idsOf(udev, true, ''), ['PARTUUID=aa-02']);
    assert.deepEqual(idsOf(udev, false, ''), ['WWN=0x5', 'SERIAL=disk=1']);
    assert.deepEqual(idsOf(new Map(), false, 'LVM-abc'), ['DM_UUID=LVM-abc']);
    assert.deepEqual(idsOf(new Map(), true, ''), []);
  });
});
