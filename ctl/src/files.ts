// SPDX-License-Identifier: Apache-2.0
// Small steps with files.
import { access, open } from 'node:fs/promises';
import { isErrnoException } from '../../agent/src/errors.js';

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrnoException(error) && error.code === 'ENOENT') return false;
    throw error;
  }
}

/** Puts on disk what another process has written. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
