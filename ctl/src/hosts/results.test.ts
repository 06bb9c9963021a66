// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { CliError, EXIT, HostsError, UnreachableError } from '../errors.js';
import type { HostAnswer } from './ask.js';
import { answersText, DONE, throwFailures, type AnswerForm } from './results.js';

const form: AnswerForm<number> = {
  columns: ['MINOR'],
  cells: (minor) => [String(minor)],
  json: (minor) => ({ minor }),
  text: (minor) => `${String(minor)}\n`,
};
const ok: HostAnswer<number> = { host: 'db1', answer: 4 };
const failed: HostAnswer<number> = {
  host: 'db2',
  failure: new CliError('db2: no snapshot', EXIT.notFound, 'NO_SUCH_TRACKER'),
};
const gone: HostAnswer<number> = {
  host: 'db3',
  failure: new UnreachableError('cannot reach db3'),
};

function thrown(...answers: readonly HostAnswer<number>[]): CliError {
  try {
    throwFailures(answers);
  } catch (error) {
    assert.ok(error instanceof CliError);
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

describe('the results of hosts', () => {
  it('are what it always was for one host', () => {
    assert.equal(answersText([ok], form, undefined), '4\n');
    assert.equal(answersText([ok], DONE, undefined), '');
    assert.equal(answersText([failed], form, undefined), '');
    assert.equal(thrown(failed), failed.failure);
  });

  it('are a table for several', () => {
    const lines = ['HOST  RESULT       MINOR', 'db1   ok           4', 'db3   unreachable'];
    assert.equal(answersText([ok, gone], form, undefined), `${lines.join('\n')}\n`);
    assert.equal(answersText([ok], form, 'table'), 'HOST  RESULT  MINOR\ndb1   ok      4\n');
  });

  it('are JSON with the same keys for one and for several', () => {
    const json = [
      { host: 'db1', result: 'ok', minor: 4 },
      {
        host: 'db2',
        result: 'failed',
        exit_status: 4,
        reason: 'NO_SUCH_TRACKER',
        message: 'db2: no snapshot',
      },
      {
        host: 'db3',
        result: 'unreachable',
        exit_status: 6,
        reason: '',
        message: 'cannot reach db3',
      },
    ];
    assert.deepEqual(JSON.parse(answersText([ok, failed, gone], form, 'json')), json);
    assert.deepEqual(JSON.parse(answersText([ok], form, 'json')), json.slice(0, 1));
  });

  it('end with the hosts that could not be reached', () => {
    const error = thrown(gone, ok, failed);
    assert.ok(error instanceof HostsError);
    assert.deepEqual(error.lines, ['db2: no snapshot', 'cannot reach db3']);
    assert.equal(error.message, 'of 3 hosts 1 failed, 1 could not be reached');
  });

  it('come to an exit code: partial, that of a class, failed, or interrupted', () => {
    const interrupted = { host: 'db4', failure: new CliError('x', EXIT.interrupted) };
    assert.equal(thrown(ok, failed).exitCode, EXIT.partial);
    assert.equal(thrown(gone, gone).exitCode, EXIT.unreachable);
    assert.equal(thrown(failed, gone).exitCode, EXIT.failed);
    assert.equal(thrown(ok, interrupted).exitCode, EXIT.interrupted);
    assert.doesNotThrow(() => {
      throwFailures([ok, ok]);
    });
  });
});
