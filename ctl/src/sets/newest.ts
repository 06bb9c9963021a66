// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrnoException } from '../../../agent/src/errors.js';
import { parseSetManifest, type SetManifest } from './manifest.js';
import { idText, MANIFEST_SUFFIX, parseName } from './names.js';

/** The manifest of the newest backup of a set, without a look at the others; undefined: there is none that can be read. */
export async function newestManifest(directory: string): Promise<SetManifest | undefined> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (isErrnoException(error) && error.code === 'ENOENT') return undefined;
    throw error;
  }
  const ids = names
    .map(parseName)
    .flatMap((parsed) => (parsed?.suffix === MANIFEST_SUFFIX ? [parsed.id] : []))
    .sort((a, b) => b - a);
  for (const id of ids) {
    try {
      const path = join(directory, `${idText(id)}${MANIFEST_SUFFIX}`);
      return parseSetManifest(await readFile(path, 'utf8'));
    } catch {
      // A damaged one is no backup that one could use; `backups check` tells about it.
    }
  }
  return undefined;
}
