// SPDX-License-Identifier: Apache-2.0
// FILE.partial, when the transfer into it goes on.
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';
import { CliError } from '../errors.js';
import { checkInterrupt } from '../interrupt.js';
import { Progress as ProgressBar } from '../progress.js';
import { ChunkDigests } from './digests.js';
import { readFully } from './file-io.js';
import type { WrittenChunks } from './full-writer.js';
import { atStep } from './steps.js';

/**
 * Reads the chunks before a byte, and leaves nothing behind them but a hole. Rejects with CliError when they have not the
 * SHA-256 (of all their digests) that they had in the stream, or with what the system refused.
 */
export async function cutPartial(
  path: string,
  sizeBytes: number,
  offsetBytes: number,
  sha256Tree: string,
  signal: AbortSignal,
): Promise<WrittenChunks> {
  const digests = ChunkDigests.empty(sizeBytes);
  const progress = new ProgressBar('checksums of what is there', offsetBytes);
  const file = await open(path, 'r+');
  try {
    const buffer = Buffer.alloc(CHUNK_SIZE);
    for (let index = 0; index * CHUNK_SIZE < offsetBytes; index += 1) {
      checkInterrupt(signal);
      const chunk = buffer.subarray(0, digests.lengthOf(index));
      await readFully(file, chunk, index * CHUNK_SIZE);
      digests.set(index, chunkDigest(chunk));
      progress.advance(chunk.length);
    }
    const tree = createHash('sha256').update(digests.before(offsetBytes)).digest('hex');
    if (tree !== sha256Tree) throw new CliError(`${path} is damaged`);
    atStep('unfinished-proven');
    await file.truncate(offsetBytes);
    atStep('unfinished-cut');
    await file.truncate(sizeBytes);
    return { offsetBytes, digests };
  } finally {
    progress.stop();
    await file.close();
  }
}
