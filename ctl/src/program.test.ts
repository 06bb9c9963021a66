// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

describe('the command line', () => {
  it('loads no package but commander until a command runs: help is quick', () => {
    const script = `
      import { createRequire } from 'node:module';
      const { buildProgram } = await import(process.argv[1]);
      buildProgram().helpInformation();
      console.log(Object.keys(createRequire(process.argv[1]).cache).join('\\n'));`;
    const argv = ['--input-type=module', '-e', script, join(import.meta.dirname, 'program.js')];
    const output = execFileSync(process.execPath, argv).toString();
    const packages = [...output.matchAll(/node_modules\/(@[^/]+\/[^/]+|[^/]+)/g)].map(([, n]) => n);
    assert.deepEqual([...new Set(packages)], ['commander']);
  });
});
