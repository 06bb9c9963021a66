// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, stat, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { asRoot, checkCommand, say } from './process.js';

/** The root of the checkout; compiled files lie in dist/integration/harness. */
export const repository = join(import.meta.dirname, '..', '..', '..');

/** Where everything that outlives a checkout is kept. */
export const cacheDirectory = join(
  process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
  'elio',
);

const unusedLimitMs = 3 * 24 * 3600 * 1000;

/** What a build leaves in a source directory. */
const products = /\.(?:o|ko|cmd|mod|mod\.c|symvers|order)$|^probed\.h$/;

/** A key part that stands for the content of a file, or of every source file below a directory. */
export async function fingerprint(path: string): Promise<string> {
  const hash = createHash('sha256');
  const visit = async (current: string): Promise<void> => {
    if (!(await stat(current)).isDirectory()) {
      hash.update(await readFile(current));
      return;
    }
    for (const entry of (await readdir(current)).sort()) {
      if (products.test(entry)) continue;
      hash.update(`\0${entry}\0`);
      await visit(join(current, entry));
    }
  };
  await visit(path);
  return hash.digest('hex');
}

/** Holds an exclusive lock that every process of this machine respects, and that ends with its holder. */
async function withLock<T>(name: string, body: () => Promise<T>): Promise<T> {
  await mkdir(cacheDirectory, { recursive: true });
  const lock = spawn(
    'flock',
    [join(cacheDirectory, `.${name}.lock`), 'sh', '-c', 'echo; exec cat'],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  await new Promise<void>((resolve, reject) => {
    lock.stdout.once('data', () => {
      resolve();
    });
    lock.once('error', reject);
    lock.once('exit', () => {
      reject(new Error(`cannot lock ${name} in ${cacheDirectory}`));
    });
  });
  try {
    return await body();
  } finally {
    lock.stdin.end();
  }
}

function artifactPath(name: string, inputs: readonly string[]): string {
  const key = createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16);
  return join(cacheDirectory, `${name}-${key}`);
}

/** The directory of an artifact that an earlier run has made of the same inputs, or undefined. */
export function earlierArtifact(name: string, inputs: readonly string[]): string | undefined {
  const path = artifactPath(name, inputs);
  return existsSync(path) ? path : undefined;
}

/**
 * The directory of an artifact, built if no earlier run left one made of the same inputs. `build` fills an empty
 * directory that takes its final name only when it is complete. Versions that nobody used for days are removed.
 */
export async function artifact(
  name: string,
  inputs: readonly string[],
  build: (directory: string) => Promise<void>,
): Promise<string> {
  const final = artifactPath(name, inputs);
  const touch = async (): Promise<string> => {
    const now = new Date();
    await utimes(final, now, now);
    return final;
  };
  if (existsSync(final)) return touch();
  return withLock(name, async () => {
    if (existsSync(final)) return touch();
    const partial = join(cacheDirectory, `${name}.partial`);
    const remove = (path: string): Promise<string> =>
      checkCommand(asRoot(['rm', '-rf', '--one-file-system', path]));
    if (existsSync(partial)) await remove(partial);
    for (const entry of await readdir(cacheDirectory)) {
      const path = join(cacheDirectory, entry);
      const isVersion = entry.startsWith(`${name}-`) && entry.length === name.length + 17;
      if (isVersion && Date.now() - (await stat(path)).mtimeMs > unusedLimitMs) await remove(path);
    }
    await mkdir(partial, { recursive: true });
    const startMs = Date.now();
    try {
      await build(partial);
    } catch (error) {
      await remove(partial);
      throw error;
    }
    await rename(partial, final);
    const seconds = Math.round((Date.now() - startMs) / 1000);
    if (seconds > 2) say(`built ${name} in ${String(seconds)} s`);
    return final;
  });
}
