// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { AgentError, toServiceError } from '../../agent/src/errors.js';
import { CliError, EXIT, UnreachableError } from './errors.js';
import { fromGrpc, LOCAL_LABEL } from './grpc-errors.js';

function plainError(code: status, details: string): ServiceError {
  return Object.assign(new Error(details), { code, details, metadata: new Metadata() });
}

describe('errors of calls', () => {
  it('become the exit code of their class', () => {
    const codes: [status, number][] = [
      [status.INVALID_ARGUMENT, EXIT.usage],
      [status.OUT_OF_RANGE, EXIT.usage],
      [status.NOT_FOUND, EXIT.notFound],
      [status.ALREADY_EXISTS, EXIT.state],
      [status.FAILED_PRECONDITION, EXIT.state],
      [status.UNIMPLEMENTED, EXIT.state],
      [status.ABORTED, EXIT.busy],
      [status.UNAVAILABLE, EXIT.unreachable],
      [status.PERMISSION_DENIED, EXIT.unreachable],
      [status.UNAUTHENTICATED, EXIT.unreachable],
      [status.DEADLINE_EXCEEDED, EXIT.timeout],
      [status.CANCELLED, EXIT.interrupted],
      [status.INTERNAL, EXIT.failed],
      [status.RESOURCE_EXHAUSTED, EXIT.failed],
      [status.DATA_LOSS, EXIT.failed],
    ];
    // A call that was sent.
    const details = 'remote_addr=10.0.0.1:7443';
    for (const [code, exitCode] of codes)
      assert.equal(fromGrpc(plainError(code, details), 'host').exitCode, exitCode, status[code]);
  });

  it("keep the agent's message and reason", () => {
    const error = toServiceError(new AgentError(status.NOT_FOUND, 'NO_SUCH_TRACKER', 'no such'));
    const result = fromGrpc(error, 'db1');
    assert.equal(result.message, 'db1: no such');
    assert.equal(result.reason, 'NO_SUCH_TRACKER');
  });

  it('say what to look at when the agent was not reached', () => {
    const message = (details: string): string =>
      fromGrpc(plainError(status.UNAVAILABLE, details), 'db1').message;
    assert.match(message('connect ECONNREFUSED'), /cannot reach the agent on db1.*eliod running/);
    // A forwarded port with nobody behind it.
    assert.match(
      message('Client network socket disconnected before secure TLS connection was established'),
      /cannot reach the agent on db1.*eliod running/,
    );
    assert.doesNotMatch(message('connect ECONNREFUSED'), /elio-rescue/);
    const local = fromGrpc(plainError(status.UNAVAILABLE, 'connect ENOENT'), LOCAL_LABEL);
    assert.match(local.message, /this host.*eliod running.*`elio-rescue`/);
    assert.match(message('tlsv1 alert unknown ca'), /trust each other.*--ca, --cert and --key/);
  });

  it('tell an agent that was not reached from one that did not answer in time', () => {
    const isUnreachable = (code: status, details: string): boolean =>
      fromGrpc(plainError(code, details), 'db1') instanceof UnreachableError;
    assert.ok(isUnreachable(status.UNAVAILABLE, 'connect ECONNREFUSED'));
    const waiting = 'Deadline exceeded after 20.0s,name resolution: 0.0s,Waiting for LB pick';
    assert.ok(isUnreachable(status.DEADLINE_EXCEEDED, waiting));
    const sent = 'Deadline exceeded after 20.0s,LB pick: 0.0s,remote_addr=10.0.0.1:7443';
    assert.ok(!isUnreachable(status.DEADLINE_EXCEEDED, sent));
    const loaded = new AgentError(status.UNAVAILABLE, 'MODULE_NOT_LOADED', 'no module');
    assert.ok(!(fromGrpc(toServiceError(loaded), 'db1') instanceof UnreachableError));
  });

  it('pass through what is one of ours already', () => {
    const error = new CliError('mine', EXIT.busy);
    assert.equal(fromGrpc(error, 'db1'), error);
  });
});
