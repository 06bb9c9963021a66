// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { AGENT_VERSION } from './version.js';

const program = join(import.meta.dirname, 'main.js');

function eliod(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...words], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

describe('eliod, called with what it does not know', () => {
  for (const words of [['--verbose'], ['start'], ['--config'], ['--version=2']]) {
    it(`says so in a few lines: ${words.join(' ')}`, () => {
      const { status, stdout, stderr } = eliod(...words);
      assert.deepEqual([status, stdout], [1, '']);
      assert.match(stderr, /^eliod: (?!Error).+\nusage: eliod \[--config FILE\]\n/);
      assert.doesNotMatch(stderr, /node:|\.js:/);
    });
  }
});

describe('eliod, asked what it is', () => {
  it('tells how it is called, and its version', () => {
    assert.match(eliod('--help').stdout, /^usage: eliod/);
    assert.deepEqual(eliod('--version'), { status: 0, stdout: `${AGENT_VERSION}\n`, stderr: '' });
  });
});
