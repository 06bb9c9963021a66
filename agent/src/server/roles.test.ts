// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { identityOfCertificate, isMutating, LEAST_ROLE, mayCall } from './roles.js';

const protos = join(import.meta.dirname, '..', '..', '..', '..', 'proto', 'elio', 'v1');

/** gRPC path -> role, as the comments of the API say. */
function rolesInComments(): Record<string, string> {
  const roles: Record<string, string> = {};
  for (const file of readdirSync(protos)) {
    let service = '';
    let role = '';
    for (const line of readFileSync(join(protos, file), 'utf8').split('\n')) {
      service = /^service (\w+)/.exec(line)?.[1] ?? service;
      role = /Who may call: (\w+)\./.exec(line)?.[1] ?? role;
      const rpc = /^\s+rpc (\w+)/.exec(line)?.[1];
      if (rpc === undefined) continue;
      roles[`/elio.v1.${service}/${rpc}`] = role;
      role = '';
    }
  }
  return roles;
}

describe('roles', () => {
  it('are those that the comments of the API promise', () => {
    const own = Object.entries(LEAST_ROLE).filter(([path]) => path.startsWith('/elio.'));
    assert.deepEqual(Object.fromEntries(own), rolesInComments());
  });

  it('include the lower ones, and nothing that is not in the table', () => {
    assert.ok(mayCall('admin', '/elio.v1.SnapshotService/GetSnapshot'));
    assert.ok(mayCall('operator', '/elio.v1.SnapshotService/SetupSnapshot'));
    assert.ok(!mayCall('viewer', '/elio.v1.SnapshotService/SetupSnapshot'));
    assert.ok(!mayCall('operator', '/elio.v1.RestoreService/BeginRestore'));
    assert.ok(!mayCall('admin', '/elio.v1.SnapshotService/Unknown'));
    assert.ok(!mayCall('admin', '/other.Service/Get'));
  });

  it('leave an audit line for what changes something', () => {
    assert.ok(isMutating('/elio.v1.SnapshotService/DestroySnapshot'));
    assert.ok(isMutating('/elio.v1.RestoreService/WriteBlocks'));
    assert.ok(!isMutating('/elio.v1.DataService/ReadBlocks'));
    assert.ok(!isMutating('/elio.v1.RestoreService/GetRestore'));
    assert.ok(!isMutating('/elio.v1.SnapshotService/ListSnapshots'));
  });

  it('come from exactly one URI name of a certificate', () => {
    const uri = 'URI:spiffe://example.org/elio/operator/backup-1';
    assert.deepEqual(identityOfCertificate(`DNS:host, ${uri}`), {
      role: 'operator',
      name: 'spiffe://example.org/elio/operator/backup-1',
    });
    for (const names of [
      undefined,
      '',
      'DNS:spiffe://example.org/elio/admin/x',
      `${uri}, URI:spiffe://example.org/elio/admin/x`,
      `${uri}, URI:https://example.org/`,
      'URI:spiffe://example.org/elio/root/x',
      'URI:spiffe://example.org/elio/admin/',
      'URI:spiffe://example.org/elio/admin/x/y',
      'URI:spiffe://example.org/other/admin/x',
      'URI:"spiffe://example.org/elio/admin/x"',
      'DNS:"host, URI:spiffe://example.org/elio/admin/x, DNS:other"',
      `${uri}, DNS:"host\\u002c other"`,
    ])
      assert.equal(identityOfCertificate(names), undefined, names);
  });
});
