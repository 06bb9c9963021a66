// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import { refusalFindings, spaceFinding, stackFindings } from './devices.js';

function device(path: string, more: Partial<BlockDevice>): BlockDevice {
  return BlockDevice.fromPartial({ path, ...more });
}

describe('doctor, of devices', () => {
  it('names what a mounted or tracked device is made of, and of no other', () => {
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

  it('names what is mounted and cannot be tracked', () => {
    const refusal = 'its filesystem is vfat';
    const found = refusalFindings([
      device('/dev/vda1', { mountPoints: ['/boot/efi'], refusal }),
      device('/dev/vda2', { mountPoints: ['/'] }),
      device('/dev/vda3', { refusal: 'no filesystem of it is mounted' }),
      device('/dev/vda4', { mountPoints: ['/srv'], minor: 0, refusal: 'it is tracked' }),
    ]);
    assert.deepEqual(
      found.map(({ subject, message }) => [subject, message]),
      [['/dev/vda1', `it cannot be tracked: ${refusal}`]],
    );
  });

  it('says when there is no room for a COW file of the default size, and how small one may be', () => {
    const disk = device('/dev/vdb', { sizeBytes: 2n << 30n });
    const tenth = (2n << 30n) / 10n;
    assert.equal(spaceFinding(disk, tenth).verdict, 'ok');
    const little = spaceFinding(disk, tenth - 1n);
    assert.equal(little.verdict, 'note');
    assert.match(little.remedy, /^make room, or give a smaller one \(-f, at least 6 MiB\)/);
    assert.equal(spaceFinding(disk, (6n << 20n) - 1n).remedy, 'make room');
  });
});
