// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { problemFindings } from './problems.js';

describe("doctor, of the agent's problems", () => {
  it('tells those that it does not find itself, also such as it does not know', () => {
    const reasons = [
      'MODULE_NOT_LOADED',
      'VERSION_MISMATCH',
      'SNAPSHOT_FAILED',
      'CERTIFICATE_EXPIRES',
      'NEW',
    ];
    const problems = reasons.map((reason) => ({ reason, message: reason.toLowerCase() }));
    const verdicts = (certificatesSeen: boolean): [string, string][] =>
      problemFindings(problems, certificatesSeen).map((f) => [f.verdict, f.message]);
    assert.deepEqual(verdicts(false), [
      ['wrong', 'snapshot_failed'],
      ['note', 'certificate_expires'],
      ['wrong', 'new'],
    ]);
    assert.deepEqual(verdicts(true), [
      ['wrong', 'snapshot_failed'],
      ['wrong', 'new'],
    ]);
  });
});
