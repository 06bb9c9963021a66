// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { findObstacle, type DeviceUse, type OverwriteTarget } from './overwriting.js';

function use(path: string, more: Partial<DeviceUse> = {}): DeviceUse {
  return { path, mountPoint: undefined, isSwap: false, holders: [], ...more };
}

function target(more: Partial<DeviceUse> = {}, ...partitions: DeviceUse[]): OverwriteTarget {
  return { sizeBytes: 1000n, uses: [use('/dev/vdb', more), ...partitions] };
}

describe('what keeps a device from being overwritten', () => {
  it('is nothing when nobody uses it and it is large enough', () => {
    const idle = target({}, use('/dev/vdb1'));
    const elsewhere = [{ minor: 1, blockDevice: '/dev/vdc' }];
    assert.equal(findObstacle(idle, 1000n, elsewhere), undefined);
  });

  for (const [name, device, reason, message] of [
    [
      'a mount',
      target({ mountPoint: '/srv' }),
      'TARGET_MOUNTED',
      /\/dev\/vdb is mounted on \/srv: /,
    ],
    ['swap', target({ isSwap: true }), 'TARGET_IN_USE', /\/dev\/vdb is swapped to/],
    [
      'devices on top of it',
      target({ holders: ['/dev/dm-0', '/dev/loop3'] }),
      'TARGET_IN_USE',
      /\/dev\/vdb is in use by \/dev\/dm-0, \/dev\/loop3/,
    ],
    [
      'a partition of it that is mounted',
      target({}, use('/dev/vdb1'), use('/dev/vdb2', { mountPoint: '/home' })),
      'TARGET_IN_USE',
      /\/dev\/vdb2, a part of \/dev\/vdb, is mounted on \/home/,
    ],
  ] as const) {
    it(`is ${name}`, () => {
      const found = findObstacle(device, 1n, []);
      assert.equal(found?.reason, reason);
      assert.match(found.message, message);
    });
  }

  it('is a tracker of it, or of a partition of it', () => {
    for (const blockDevice of ['/dev/vdb', '/dev/vdb1']) {
      const tracker = { minor: 20, blockDevice };
      const found = findObstacle(target({}, use('/dev/vdb1')), 1n, [tracker]);
      assert.equal(found?.reason, 'TARGET_TRACKED');
      assert.match(found.message, new RegExp(`${blockDevice} is tracked as snapshot 20`));
    }
  });

  it('is its size, when that is a byte too small', () => {
    const found = findObstacle(target(), 1001n, []);
    assert.equal(found?.reason, 'TARGET_TOO_SMALL');
    assert.match(found.message, /has 1000 bytes and the backup 1001/);
  });
});
