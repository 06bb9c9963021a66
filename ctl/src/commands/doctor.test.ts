// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import { stackFindings } from './doctor.js';

describe('doctor', () => {
  it('names what a mounted or tracked device is made of, and of no other', () => {
    const device = (path: string, more: Partial<BlockDevice>): BlockDevice =>
      BlockDevice.fromPartial({ path, ...more });
    const found = stackFindings([
      device('/dev/vdb1', { mountPoints: ['/srv'] }),
      device('/dev/dm-0', { mountPoints: ['/var'], lowerDevices: ['/dev/md0'] }),
      device('/dev/loop0', { minor: 1, lowerDevices: ['/srv/disk.img'] }),
      device('/dev/md0', { lowerDevices: ['/dev/vdc', '/dev/vdd'] }),
    ]);
    assert.deepEqual(
      found.map(({ verdict, subject }) => [verdict, subject]),
      [
        ['note', '/dev/dm-0'],
        ['note', '/dev/loop0'],
      ],
    );
    assert.match(found[0]?.message ?? '', /made of \/dev\/md0: what is written there/);
  });
});
