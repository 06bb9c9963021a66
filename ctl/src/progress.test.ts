// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

describe('progress', () => {
  const script = `
    const { CountProgress, Progress } = await import(${JSON.stringify(join(import.meta.dirname, 'progress.js'))});
    for (const progress of [new Progress('backup', 4096), new CountProgress(2)]) {
      progress.advance(1);
      progress.stop();
    }`;
  const argv = [process.execPath, '--input-type=module', '-e', script];

  it('shows on a terminal', () => {
    const command = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { input: '' });
    assert.match(stdout.toString(), /backup .*0 of 2 hosts/s);
  });

  it('shows nowhere else: what runs by itself is silent when all is well', () => {
    const [program = '', ...args] = argv;
    const { status, stdout, stderr } = spawnSync(program, args);
    assert.deepEqual([status, stdout.toString(), stderr.toString()], [0, '', '']);
  });
});
