// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  formatReloadList,
  parseReloadList,
  readReloadList,
  ReloadListError,
  writeReloadList,
  type ReloadEntry,
} from './reload-list.js';

const plain: ReloadEntry = {
  mode: 'incremental',
  minor: 0,
  device: 'PARTUUID=8c2f1a30-01',
  cowFile: '/cow1',
  cacheSizeBytes: 314572800n,
  ignoreErrors: false,
};
const awkward: ReloadEntry = {
  mode: 'snapshot',
  minor: 254,
  device: 'WWID=t10.ATA     QEMU = \\ "x"',
  cowFile: '/Täglich/new\nline\ttab\\040 \u007f☃',
  cacheSizeBytes: (1n << 64n) - 1n,
  ignoreErrors: true,
};

describe('the list of what is reloaded at boot', () => {
  it('has a line for its version and one for each tracker', () => {
    assert.equal(
      formatReloadList([plain, { ...plain, cowFile: '/a b\\' }]),
      'elio-reload 1\nincremental 0 PARTUUID=8c2f1a30-01 /cow1 314572800 0\nincremental 0 PARTUUID=8c2f1a30-01 /a\\040b\\134 314572800 0\n',
    );
  });

  it('is read as it was written', () => {
    for (const entries of [[], [plain], [plain, awkward]])
      assert.deepEqual(parseReloadList(Buffer.from(formatReloadList(entries))), entries);
  });

  it('is refused when it is damaged, with the line and the reason', () => {
    const good = formatReloadList([plain, plain]);
    const damages: [string, RegExp][] = [
      ['', /not of elio-reload 1/],
      ['\n', /not of elio-reload 1/],
      [good.replace('1\n', '2\n'), /not of elio-reload 1/],
      [good.slice(0, -1), /ends in the middle/],
      [good.replace('incremental', 'sometimes'), /line 2 holds no entry/],
      [good.replace(/0\n$/, '2\n'), /line 3 holds no entry/],
      [good.replace(/0\n$/, '0 0\n'), /line 3 holds no entry/],
      [good.replace('PARTUUID=', ''), /line 2 .*KIND=VALUE/],
      [good.replace('/cow1', 'cow1'), /line 2 .*absolute/],
      [good.replace('/cow1', '/cow\\09'), /line 2 .*escape/],
      [good.replace('/cow1', '/cow\\000'), /line 2 .*escape/],
      [good.replace(' 0 ', ' 4294967296 '), /line 2 .*too large/],
      [good.replace('314572800', '18446744073709551616'), /line 2 .*too large/],
    ];
    for (const [text, reason] of damages) {
      assert.throws(
        () => parseReloadList(Buffer.from(text)),
        (error) => error instanceof ReloadListError && reason.test(error.message),
        JSON.stringify(text),
      );
    }
  });

  it('is empty when there is none, and replaced as a whole', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'elio-reload-'));
    try {
      const path = join(directory, 'elio', 'reload');
      assert.deepEqual(await readReloadList(path), []);
      await writeReloadList(path, [awkward]);
      await writeReloadList(path, [plain]);
      assert.deepEqual(await readReloadList(path), [plain]);
      assert.equal(await readFile(path, 'utf8'), formatReloadList([plain]));
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
