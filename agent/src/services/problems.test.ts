// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { problemsOf, type HostFacts } from './problems.js';

const well: HostFacts = {
  moduleVersion: '1.0.0',
  agentVersion: '1.0.0',
  snapshots: [],
  certificateExpires: undefined,
  certificateFault: '',
  nowMs: 0,
};
const reasons = (facts: Partial<HostFacts>): string[] =>
  problemsOf({ ...well, ...facts }).map(({ reason }) => reason);

describe('the problems of a host', () => {
  it('are none when it is well', () => {
    assert.deepEqual(reasons({}), []);
    assert.deepEqual(reasons({ certificateExpires: new Date(31 * 86_400_000) }), []);
  });

  it('are a missing or other module, failed snapshots, a certificate that expires', () => {
    assert.deepEqual(reasons({ moduleVersion: '' }), ['MODULE_NOT_LOADED']);
    assert.deepEqual(reasons({ moduleVersion: '0.9.0' }), ['VERSION_MISMATCH']);
    const snapshots = [Snapshot.fromPartial({ error: -28 }), Snapshot.fromPartial({})];
    assert.deepEqual(reasons({ snapshots }), ['SNAPSHOT_FAILED']);
    assert.deepEqual(reasons({ certificateExpires: new Date(29 * 86_400_000) }), [
      'CERTIFICATE_EXPIRES',
    ]);
    assert.deepEqual(reasons({ certificateFault: 'they expired' }), ['CERTIFICATE_EXPIRES']);
  });
});
