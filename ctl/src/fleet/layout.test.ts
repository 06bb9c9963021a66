// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { isDeviceName } from '../device-name.js';
import { deviceDirectory, FleetLayout, hostDirectory } from './layout.js';

const DEVICES = [
  '/dev/vdb1',
  '/dev/mapper/vg-root',
  '/dev/mapper/vg--root',
  '/dev/mapper-vg/root',
  '/dev/mapper+vg-root',
  '/dev/mapper%2Fvg-root',
  '/dev/disk/by-label/ä\\x20 b',
  '/dev/..a',
  '/PARTUUID=1',
  'PARTUUID=1',
  'PARTUUID=1/2',
  'PARTUUID=../../x',
  'SERIAL=a b:c~!\'"*()\n',
  '/.hidden',
  '/',
];
const HOSTS = [
  'db1.example.com',
  'DB_1',
  'b:8000',
  'fe80::1',
  '..',
  '.',
  '.lock',
  '%2Elock',
  'reports',
  '%72eports',
];

describe('the names of directories of a fleet', () => {
  it('are those of hosts and devices, where they can be', () => {
    assert.equal(hostDirectory('db1.example.com'), 'db1.example.com');
    assert.equal(deviceDirectory('/dev/mapper/vg-root'), 'dev+mapper+vg-root');
    assert.equal(deviceDirectory('PARTUUID=8f3c-01'), 'PARTUUID=8f3c-01');
  });

  it('are one safe component each, and no two names share one', () => {
    assert.ok(DEVICES.every(isDeviceName));
    for (const names of [DEVICES.map(deviceDirectory), HOSTS.map(hostDirectory)]) {
      assert.equal(new Set(names).size, names.length, names.join(' '));
      for (const name of names) assert.match(name, /^[A-Za-z0-9_=%+-][A-Za-z0-9._=%+-]*$/);
    }
    assert.ok(!HOSTS.map(hostDirectory).includes('reports'));
  });

  it('never lead out of the destination', () => {
    const layout = new FleetLayout('/backup');
    for (const host of HOSTS) {
      for (const device of DEVICES) {
        const parts = layout.set(host, device).split(sep);
        assert.deepEqual([parts.length, parts[1]], [4, 'backup'], `${host} ${device}`);
      }
    }
  });

  it('tell the names of the devices again', async () => {
    const root = mkdtempSync(join(tmpdir(), 'elio-layout-'));
    try {
      const layout = new FleetLayout(root);
      for (const device of DEVICES) mkdirSync(layout.set('db1', device), { recursive: true });
      mkdirSync(join(root, 'db1', 'not ours%'));
      writeFileSync(join(root, 'db1', 'dev+file'), '');
      const found = await layout.devicesOf('db1');
      assert.deepEqual(found.sort(), [...DEVICES].sort());
      assert.deepEqual(await layout.devicesOf('db2'), []);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('are of names that mean the same wherever they are typed', () => {
    for (const name of ['', 'vdb1', './vdb1', '/dev/../etc', '/dev//vdb1', '../x', 'partuuid=1'])
      assert.ok(!isDeviceName(name), name);
  });
});
