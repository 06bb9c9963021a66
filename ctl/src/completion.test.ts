// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandsOf, firstWordsOf } from './command-tree.js';
import { completionScript } from './completion.js';
import { buildProgram } from './program.js';

describe('completion', () => {
  const program = buildProgram();

  describe('in bash', () => {
    let directory = '';
    let script = '';
    before(() => {
      directory = mkdtempSync(join(tmpdir(), 'elio-completion-'));
      script = join(directory, 'elioctl');
      writeFileSync(script, completionScript(program, 'bash'));
    });
    after(() => {
      rmSync(directory, { recursive: true });
    });

    /** What bash offers for the last of the words; `files` when it is left to complete files. */
    function offered(...words: readonly string[]): string[] {
      const text = `
        source "$1"; shift
        compopt() { echo files; }
        COMP_WORDS=(elioctl "$@") COMP_CWORD=$#
        _elioctl
        printf '%s\\n' "\${COMPREPLY[@]}"`;
      const output = execFileSync('bash', ['-c', text, 'bash', script, ...words]);
      return output.toString().split('\n').filter(Boolean);
    }

    it('offers commands, after global options too', () => {
      assert.deepEqual(offered('transition-to-s'), ['transition-to-snapshot']);
      assert.equal(offered('').length, firstWordsOf(program).length);
      assert.deepEqual(offered('--host', 'list', '--ca', 'x', 'wat'), ['watch']);
    });

    it('offers the commands of a group, and what belongs to them', () => {
      assert.deepEqual(offered('backu'), ['backup', 'backups']);
      assert.deepEqual(offered('backups', 'm'), ['merge', 'mount']);
      assert.deepEqual(offered('backups', 'prune', '--keep'), ['--keep-last', '--keep-days']);
      assert.deepEqual(offered('backups', 'merge', '--into', 's'), ['successor']);
      assert.deepEqual(offered('backups', 'list', ''), ['files']);
      assert.deepEqual(offered('backups', 'list', '/x', ''), []);
      assert.deepEqual(offered('fleet', ''), ['backup']);
      assert.deepEqual(offered('fleet', 'backup', '--dest', ''), ['files']);
      assert.deepEqual(offered('fleet', 'backup', '--dest', '/x', '--b'), ['--bandwidth']);
    });

    it('offers the options of the command and of the program', () => {
      assert.deepEqual(offered('destroy', '--y'), ['--yes']);
      assert.deepEqual(offered('destroy', '--keep'), []);
      assert.deepEqual(offered('destroy', '--inv'), ['--inventory']);
    });

    it('offers the values of options and arguments', () => {
      assert.deepEqual(offered('list', '--output', ''), ['table', 'json']);
      assert.deepEqual(offered('completion', 'z'), ['zsh']);
      assert.deepEqual(offered('help', 'wat'), ['watch']);
      assert.deepEqual(offered('list', '--parallel', ''), []);
    });

    it('offers files where a file or a device belongs, and nowhere else', () => {
      assert.deepEqual(offered('setup-snapshot', '-c', '4', ''), ['files']);
      assert.deepEqual(offered('setup-snapshot', '/dev/vdb', '/srv/c'), ['files']);
      assert.deepEqual(offered('setup-snapshot', '/dev/vdb', '/srv/cow', ''), []);
      assert.deepEqual(offered('--inventory', ''), ['files']);
      assert.deepEqual(offered('destroy', ''), []);
    });
  });

  it('names every command and every long option in every shell', () => {
    for (const shell of ['bash', 'zsh', 'fish'] as const) {
      const script = completionScript(program, shell);
      for (const { name, options } of commandsOf(program)) {
        assert.ok(script.includes(name), `${name} in ${shell}`);
        for (const option of options.flatMap(({ names }) => names)) {
          const text = shell === 'fish' ? option.replace(/^--?/, '') : option;
          assert.ok(script.includes(text), `${option} of ${name} in ${shell}`);
        }
      }
    }
  });
});
