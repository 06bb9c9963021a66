// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Inventory } from './inventory.js';

const sample = join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'inventory.yaml');

function parse(...lines: readonly string[]): Inventory {
  return Inventory.parse(lines.join('\n'), '/etc/elio/inventory.yaml');
}

describe('an inventory', () => {
  it('has groups within groups, and ranges', () => {
    const inventory = parse(
      'hosts: [backup]',
      'groups:',
      '  db:',
      '    hosts: ["db[01:02]"]',
      '    groups:',
      '      replicas: { hosts: [db03, db02] }',
      '  web: { hosts: [web1] }',
    );
    assert.deepEqual(inventory.hosts, ['backup', 'db01', 'db02', 'db03', 'web1']);
    assert.deepEqual(inventory.hostsOf('db'), ['db01', 'db02', 'db03']);
    assert.deepEqual(inventory.hostsOf('replicas'), ['db03', 'db02']);
    assert.equal(inventory.hostsOf('mail'), undefined);
    assert.deepEqual(inventory.groupNames, ['db', 'replicas', 'web']);
  });

  it('gives a host its own settings, then those of the groups around it', () => {
    const inventory = parse(
      'port: 1000',
      'ca: tls/ca.crt',
      'groups:',
      '  db:',
      '    port: 2000',
      '    cert: /x/db.crt',
      '    hosts:',
      '      - db1',
      '      - { name: db2, port: 3000, address: 10.0.0.2 }',
      '    groups:',
      '      old: { port: 4000, hosts: [db3] }',
      '  web: { hosts: [web1] }',
      '  monday: { hosts: [db1] }',
    );
    const ca = '/etc/elio/tls/ca.crt';
    const cert = '/x/db.crt';
    assert.deepEqual(inventory.settingsOf('db1'), { port: 2000, ca, cert });
    assert.deepEqual(inventory.settingsOf('db2'), { address: '10.0.0.2', port: 3000, ca, cert });
    assert.deepEqual(inventory.settingsOf('db3'), { port: 4000, ca, cert });
    assert.deepEqual(inventory.settingsOf('web1'), { port: 1000, ca });
    assert.equal(inventory.settingsOf('web2'), undefined);
  });

  it('tells which devices of a host are backed up', () => {
    const inventory = parse(
      'devices: [/dev/vda1]',
      'groups:',
      '  db:',
      '    devices: [/dev/mapper/vg-db, PARTUUID=1]',
      '    hosts: [db1, { name: db2, devices: [/dev/vdb] }]',
      '  web: { hosts: [web1] }',
      '  nightly: { devices: [/dev/mapper/vg-db, PARTUUID=1], hosts: [db1] }',
    );
    const devices = ['db1', 'db2', 'web1'].map((host) => inventory.settingsOf(host)?.devices);
    assert.deepEqual(devices, [['/dev/mapper/vg-db', 'PARTUUID=1'], ['/dev/vdb'], ['/dev/vda1']]);
  });

  it('names file and line of what is wrong', () => {
    const cases: [RegExp, ...string[]][] = [
      [/:2: .*hots/, 'port: 1', 'hots: [a]'],
      [/:3: .*prot/, 'hosts:', '  - a', '  - { name: b, prot: 1 }'],
      [/:4: /, 'groups:', '  db:', '    hosts:', '    - 7'],
      [/:2: .*nam/, 'hosts:', '  - { port: 7 }'],
      [/:1: /, 'port: 70000'],
      [/:\d+: /, 'hosts: [a'],
      [/:1: /, '- a'],
      [/:3: .*runs backwards/, 'hosts:', '  - a', '  - b[3:1]'],
      [/:2: .*no name of a host: a range is written/, 'hosts:', '  - b[1-3]'],
      [/:2: .*a port is a key/, 'hosts:', '  - b:7443'],
      [/:2: .*one address/, 'hosts:', '  - { name: "b[1:2]", address: c }'],
      [/:2: .*absolute path, or a stable id/, 'devices:', '  - vdb'],
      [/:1: .*a device is there twice/, 'devices: [/dev/vdb, /dev/vdb]'],
      [/:1: .*name a device/, 'devices: []'],
      [/:4: .*twice/, 'groups:', '  a:', '    groups:', '      a: {}'],
      [
        /:4: db1 has two values of port: 1 and 2/,
        'groups:',
        '  a: { port: 1, hosts: [db1] }',
        '  b: { port: 2, hosts:',
        '    [db1] }',
      ],
    ];
    for (const [message, ...lines] of cases)
      assert.throws(() => parse(...lines), message, lines.join('\n'));
  });

  it('has a sample in the documentation', () => {
    const inventory = Inventory.parse(readFileSync(sample, 'utf8'), sample);
    assert.equal(inventory.hosts.length, 16);
    assert.equal(inventory.hostsOf('databases')?.length, 14);
  });
});
