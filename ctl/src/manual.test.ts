// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { commandsOf, globalOptionsOf } from './command-tree.js';
import { manualPage } from './manual.js';
import { buildProgram } from './program.js';

describe('the manual page', () => {
  const program = buildProgram();
  const page = manualPage(program, "port: 1\n.dot\n'quote\n", new Date(0));
  const text = page.replace(/\\f[BIR]/g, '').replace(/\\-/g, '-');

  it('explains every command, its arguments and options', () => {
    for (const command of commandsOf(program)) {
      const [, section = ''] = text.split(`.SS ${command.name}\n`);
      const own = section.split('\n.S')[0] ?? '';
      assert.ok(own.startsWith(`elioctl ${command.name}`), command.name);
      for (const { flags, names } of command.options)
        assert.ok(own.includes(`\n${names.join(', ')}`), `${flags} of ${command.name}`);
      for (const { name } of command.arguments)
        assert.ok(own.includes(`\n<${name}>\n`), `${name} of ${command.name}`);
    }
    for (const { names } of globalOptionsOf(program)) assert.ok(text.includes(names.join(', ')));
  });

  it('shows which options a command needs', () => {
    assert.match(text, /^elioctl fleet backup --dest <directory> \[--device <block device>\]/m);
  });

  it('has no line that roff would take for a request', () => {
    assert.ok(page.includes("\n\\&.dot\n\\&'quote\n"));
  });

  it('has the date of the build, and all exit codes', () => {
    assert.match(page, /^\.TH ELIOCTL 8 1970-01-01 /m);
    for (const code of ['0', '3', '8', '130']) assert.ok(text.includes(`\n.TP\n${code}\n`), code);
  });
});
