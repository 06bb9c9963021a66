// SPDX-License-Identifier: Apache-2.0
// The driver's parser of COW files, in user space under ASan and UBSan (cow-file.c): 20 000 damaged files, or a million with
// ELIO_LENGTH=long; ELIO_SEED chooses others.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { repository } from '../harness/cache.js';
import { rounds } from '../harness/length.js';
import { checkCommand } from '../harness/process.js';

const seed = process.env['ELIO_SEED'] ?? '1';
const files = rounds(20_000, 1_000_000);

describe("the driver's parser of COW files", () => {
  it(`reads what it wrote, and takes nothing that leads out of ${String(files)} damaged files`, async function () {
    this.timeout(3600 * 1000);
    await checkCommand(['make', '-s', '-C', join(repository, 'integration', 'fuzz')]);
    const fuzzer = join(repository, 'build', 'fuzz', 'cow-file');
    const output = await checkCommand([fuzzer, String(files), seed]);
    const counts = JSON.parse(output) as Record<string, number>;
    for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `${what}: ${output}`);
  });
});
