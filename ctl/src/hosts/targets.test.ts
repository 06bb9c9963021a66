// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CliError, EXIT } from '../errors.js';
import { selectTargets } from './targets.js';

describe('the hosts of a command line', () => {
  let directory = '';
  let inventory = '';

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'elio-targets-'));
    inventory = join(directory, 'inventory.yaml');
    const lines = [
      'cert: all.crt',
      'hosts: [alone]',
      'groups:',
      '  db: { port: 8000, hosts: ["db[1:2]"] }',
      '  web: { hosts: [{ name: www, address: "10.0.0.1", cert: www.crt }, db1] }',
    ];
    writeFileSync(inventory, lines.join('\n'));
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  function labels(host: readonly string[], group: readonly string[] = []): string[] {
    return selectTargets({ host, group, inventory }).map(({ label }) => label);
  }

  function refused(host: readonly string[], group: readonly string[], file?: string): string {
    try {
      selectTargets({ host, group, inventory: file });
    } catch (error) {
      assert.ok(error instanceof CliError);
      assert.equal(error.exitCode, EXIT.usage);
      return error.message;
    }
    throw new assert.AssertionError({ message: 'it was not refused' });
  }

  it('are none without options: the agent on this host is meant', () => {
    assert.deepEqual(selectTargets({ host: [], group: [] }), []);
  });

  it('are those of --host, ranges and all, each once', () => {
    const targets = selectTargets({ host: ['a[1:2]', 'a2', 'b:8000'], group: [] });
    assert.deepEqual(
      targets.map(({ label, address }) => [label, address]),
      [
        ['a1', 'a1:7443'],
        ['a2', 'a2:7443'],
        ['b:8000', 'b:8000'],
      ],
    );
  });

  it('are all of the inventory, or those of its groups and --host', () => {
    assert.deepEqual(labels([]), ['alone', 'db1', 'db2', 'www']);
    assert.deepEqual(labels([], ['db']), ['db1', 'db2']);
    assert.deepEqual(labels([], ['web', 'db']), ['www', 'db1', 'db2']);
    assert.deepEqual(labels(['alone', 'db1'], ['db']), ['alone', 'db1', 'db2']);
  });

  it('are reached as the inventory says', () => {
    const [db1, www] = selectTargets({ host: ['db1', 'www'], group: [], inventory });
    assert.deepEqual(db1, {
      label: 'db1',
      address: 'db1:8000',
      certifiedName: undefined,
      tls: { cert: join(directory, 'all.crt') },
    });
    assert.deepEqual(www, {
      label: 'www',
      address: '10.0.0.1:7443',
      certifiedName: 'www',
      tls: { cert: join(directory, 'www.crt') },
    });
  });

  it('are refused when they cannot be', () => {
    assert.match(refused([], ['db']), /--group needs --inventory/);
    assert.match(refused([], ['mail'], inventory), /mail: .*no such group, only db, web/);
    assert.match(refused(['stranger'], [], inventory), /stranger: the inventory has no such host/);
    assert.match(refused(['a b'], []), /"a b" is no HOST/);
    assert.match(refused(['a[2:1]'], []), /runs backwards/);
    assert.match(refused([], [], join(directory, 'missing')), /missing/);
    const empty = join(directory, 'empty.yaml');
    writeFileSync(empty, 'hosts: []\n');
    assert.match(refused([], [], empty), /no host is left/);
  });
});
