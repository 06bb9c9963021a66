// SPDX-License-Identifier: Apache-2.0
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { KeyedMutex } from './semaphore.js';

/** Writers of one file take turns: they share its temporary name, which a crash leaves once at most. */
const writers = new KeyedMutex<string>();

/** Makes names in a directory outlast a crash. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Replaces a file as a whole: after a crash it has its old or its new content. Only its owner may read it, without another mode. */
export function writeFileAtomically(
  path: string,
  data: string | Iterable<Buffer>,
  mode = 0o600,
): Promise<void> {
  return writers.run(path, () => replaceFile(path, data, mode));
}

async function replaceFile(
  path: string,
  data: string | Iterable<Buffer>,
  mode: number,
): Promise<void> {
  const directory = dirname(path);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const temporary = `${path}.tmp`;
  const file = await open(temporary, 'w', mode);
  try {
    // Neither a umask nor what a crash has left decides.
    await file.chmod(mode);
    await writeFile(file, data);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(directory);
}
