// SPDX-License-Identifier: Apache-2.0
import { open, type FileHandle } from 'node:fs/promises';
import { isErrnoException } from '../errors.js';
import { alignedBuffer, alignedLength, openDirect, readDevice } from '../os/direct-io.js';
import { CHUNK_SIZE, chunkDigest } from './chunks.js';

/** Filesystems without direct I/O refuse it; block devices never do. */
async function openUncached(path: string): Promise<FileHandle> {
  try {
    return await openDirect(path);
  } catch (error) {
    if (isErrnoException(error) && error.code === 'EINVAL') return open(path, 'r');
    throw error;
  }
}

/** The digest of each chunk of the first bytes of a device or file, in order; read from there, not from memory. */
export async function* chunkDigestsOf(path: string, sizeBytes: number): AsyncGenerator<Buffer> {
  const buffer = alignedBuffer(CHUNK_SIZE);
  const file = await openUncached(path);
  try {
    for (let offset = 0; offset < sizeBytes; offset += CHUNK_SIZE) {
      const length = Math.min(CHUNK_SIZE, sizeBytes - offset);
      await readDevice(file, buffer.subarray(0, alignedLength(length)), offset, length);
      yield chunkDigest(buffer.subarray(0, length));
    }
  } finally {
    await file.close();
  }
}
