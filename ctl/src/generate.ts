// SPDX-License-Identifier: Apache-2.0
// generate.js DIRECTORY: writes what is made from the code, as it lies below /usr/share: manual page, completions, and the
// schema of a manifest.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { completionScript } from './completion.js';
import { manualPage } from './manual.js';
import { buildProgram } from './program.js';
import { setManifestJsonSchema } from './sets/manifest.js';

const inventory = new URL('../../../docs/inventory.yaml', import.meta.url);

/** https://reproducible-builds.org: the time of the sources instead of that of the build, in seconds. */
function buildDate(): Date {
  const seconds = process.env['SOURCE_DATE_EPOCH'];
  return seconds === undefined ? new Date() : new Date(Number(seconds) * 1000);
}

const [directory = ''] = process.argv.slice(2);
if (directory === '') throw new Error('usage: generate.js DIRECTORY');
const program = buildProgram();
const files: Readonly<Record<string, string>> = {
  'man/man8/elioctl.8': manualPage(program, readFileSync(inventory, 'utf8'), buildDate()),
  'bash-completion/completions/elioctl': completionScript(program, 'bash'),
  'zsh/vendor-completions/_elioctl': completionScript(program, 'zsh'),
  'fish/vendor_completions.d/elioctl.fish': completionScript(program, 'fish'),
  'doc/elio-ctl/backup-manifest.schema.json': `${JSON.stringify(setManifestJsonSchema(), null, 2)}\n`,
};
for (const [name, text] of Object.entries(files)) {
  const path = join(directory, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
