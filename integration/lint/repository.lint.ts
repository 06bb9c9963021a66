// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repository } from '../harness/cache.js';
import { checkpatch, defaultKernel } from '../harness/debian.js';
import { compileModule, warningsIn } from '../harness/payload.js';
import { runCommand } from '../harness/process.js';

/** A check passes when its command ends with status 0. */
function passes(...argv: string[]): Promise<void> {
  return passesIn(repository, ...argv);
}

async function passesIn(directory: string, ...argv: string[]): Promise<void> {
  const { status, stdout, stderr } = await runCommand(argv, { cwd: directory });
  assert.equal(status, 0, `${argv.join(' ')}\n${stdout}${stderr}`);
}

/** In a directory of its own, because checkpatch leaves a cache where it runs. */
async function checkpatchPasses(
  options: readonly string[],
  files: readonly string[],
): Promise<void> {
  const paths = files.map((file) => join(repository, file));
  const directory = await mkdtemp(join(tmpdir(), 'elio-checkpatch-'));
  try {
    await passesIn(directory, 'perl', await checkpatch(), ...options, '--file', ...paths);
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function filesBelow(directory: string, suffix: RegExp): Promise<string[]> {
  const files = await readdir(join(repository, directory), { recursive: true });
  return files
    .filter((file) => suffix.test(file) && !/\.mod\.c$|probed\.h$/.test(file))
    .map((file) => join(directory, file));
}

describe('proto', () => {
  it('is clean for buf', () => passes('npx', 'buf', 'lint', 'proto'));
  it('is formatted', () => passes('npx', 'buf', 'format', '--diff', '--exit-code', 'proto'));
  it('does not break clients of the committed API', () =>
    passes('npx', 'buf', 'breaking', 'proto', '--against', 'proto/baseline.binpb'));
});

describe('TypeScript', () => {
  it('is formatted', () => passes('npx', 'prettier', '--check', '.'));
  it('is clean for eslint', () =>
    passes('npx', 'eslint', '--config', 'integration/eslint.config.js', '.'));
});

describe('C', () => {
  const strict = ['--no-tree', '--strict', '--terse', '--show-types', '--no-summary'];

  it('is clean for checkpatch: the driver and the module of the tests', async () => {
    const files = await filesBelow('driver', /\.[ch]$/);
    files.push(...(await filesBelow('integration/guest/module', /\.[ch]$/)));
    // BIT() does not exist in a header that user space includes.
    const options = [...strict, '--max-line-length=100', '--ignore=BIT_MACRO'];
    await checkpatchPasses(options, files);
  });

  it('is clean for checkpatch: elio-rescue and the test programs', async () => {
    const files = await filesBelow('integration/guest', /^[^/]*\.[ch]$/);
    files.push(...(await filesBelow('integration/fuzz', /\.c$/)));
    files.push(...(await filesBelow('agent/rescue', /\.[ch]$/)));
    // What is advice for kernel code only: its types, macros and names.
    const kernelOnly = [
      'ARRAY_SIZE',
      'CAMELCASE',
      'EMBEDDED_FUNCTION_NAME',
      'PREFER_DEFINED_ATTRIBUTE_MACRO',
      'PREFER_KERNEL_TYPES',
      'SPLIT_STRING',
      'VOLATILE',
    ];
    const options = [...strict, '--max-line-length=128', `--ignore=${kernelOnly.join(',')}`];
    await checkpatchPasses(options, files);
  });

  // That the compiler of each kernel warns of nothing (W=1) is a condition of every build.
  it('compiles without a warning of sparse', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'elio-sparse-'));
    const output = await compileModule(defaultKernel(), directory, ['C=2', 'CHECK=sparse']);
    await rm(directory, { recursive: true });
    assert.deepEqual(warningsIn(output), []);
  });
});

describe('what is made from the command tree', () => {
  it('is clean for mandoc: the manual page', () =>
    passes('mandoc', '-T', 'lint', 'dist/share/man/man8/elioctl.8'));
  it('is read by the shells: completions', async () => {
    await passes('bash', '-n', 'dist/share/bash-completion/completions/elioctl');
    await passes('zsh', '-n', 'dist/share/zsh/vendor-completions/_elioctl');
    await passes('fish', '-n', 'dist/share/fish/vendor_completions.d/elioctl.fish');
  });
});

describe('the version', () => {
  it('is the same in npm package, DKMS and driver', async () => {
    const versionIn = async (file: string, pattern: RegExp): Promise<string | undefined> =>
      pattern.exec(await readFile(join(repository, file), 'utf8'))?.[1];
    const version = await versionIn('package.json', /^ {2}"version": "(.*)"/m);
    assert.equal(await versionIn('driver/dkms.conf', /^PACKAGE_VERSION="(.*)"/m), version);
    assert.equal(await versionIn('driver/esnap.h', /^#define ESNAP_VERSION "(.*)"/m), version);
  });
});

describe('scripts', () => {
  it('are free of names of mirrors and registries', async () => {
    const { stdout } = await runCommand(
      ['git', 'grep', '-nE', 'https?://[a-z.]*(debian\\.org|npmjs)', '--', '.'],
      { cwd: repository },
    );
    assert.equal(stdout, '');
  });
});
