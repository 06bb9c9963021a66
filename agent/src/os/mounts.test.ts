// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { deviceNumber, parseMountInfo, pathInMounts } from './mounts.js';

const text = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 254:16 / /mnt/a\\040b rw,relatime - ext4 /dev/vdb rw
41 22 254:16 /sub /srv/bind ro,relatime shared:7 master:2 - ext4 /dev/vdb rw
42 22 254:32 / /ro rw - xfs /dev/vdc ro
`;

describe('mounts', () => {
  const mounts = parseMountInfo(text);

  it('are read with their escapes and both kinds of read-only', () => {
    assert.deepEqual(
      mounts.map((m) => [m.device, m.root, m.mountPoint, m.filesystem, m.readOnly]),
      [
        ['254:1', '/', '/', 'ext4', false],
        ['254:16', '/', '/mnt/a b', 'ext4', false],
        ['254:16', '/sub', '/srv/bind', 'ext4', true],
        ['254:32', '/', '/ro', 'xfs', true],
      ],
    );
  });

  it('show a file of a filesystem, if one of them does', () => {
    assert.equal(pathInMounts(mounts, '254:16', '/cow'), '/mnt/a b/cow');
    const bindOnly = mounts.filter((m) => m.root === '/sub');
    assert.equal(pathInMounts(bindOnly, '254:16', '/sub/cow'), '/srv/bind/cow');
    assert.equal(pathInMounts(bindOnly, '254:16', '/subway/cow'), undefined);
    assert.equal(pathInMounts(mounts, '1:1', '/cow'), undefined);
  });

  it('are of devices with large numbers too', () => {
    assert.equal(deviceNumber((254 << 8) | 16), '254:16');
    assert.equal(deviceNumber(0x10_0800 + 0x12), '8:274');
  });
});
