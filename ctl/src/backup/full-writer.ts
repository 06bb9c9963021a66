// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { CliError } from '../errors.js';
import type { Blocks } from './blocks.js';
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';
import { ChunkDigests } from './digests.js';
import { writeBlocks } from './file-io.js';

/** The first chunks of a volume, and their digests. */
export interface WrittenChunks {
  offsetBytes: number;
  digests: ChunkDigests;
}

/**
 * Writes all blocks of a volume, in ascending order and without gaps, to a file that is empty, or has the first chunks of the
 * volume and nothing behind them, and hashes them. Chunks that are all zero stay holes of the file.
 */
export class FullWriter {
  private readonly digests: ChunkDigests;
  /** Over the digests so far. */
  private readonly tree = createHash('sha256');
  private readonly chunk = Buffer.alloc(CHUNK_SIZE);
  private chunkHasData = false;
  private position = 0;
  private writtenBytes = 0;

  constructor(
    private readonly file: FileHandle,
    private readonly sizeBytes: number,
    former: WrittenChunks = { offsetBytes: 0, digests: ChunkDigests.empty(sizeBytes) },
  ) {
    this.digests = former.digests;
    this.position = former.offsetBytes;
    this.writtenBytes = former.offsetBytes;
    this.tree.update(former.digests.before(former.offsetBytes));
  }

  /** The end of the last chunk that is in the file, and SHA-256 of the digests of all up to there. */
  get written(): { offsetBytes: number; sha256Tree: string } {
    const sha256Tree = this.tree.copy().digest('hex');
    return { offsetBytes: this.writtenBytes, sha256Tree };
  }

  async write(blocks: Blocks): Promise<void> {
    if (blocks.offset !== this.position) {
      throw new CliError(`blocks of byte ${String(this.position)} are missing in the stream`);
    }
    if (blocks.kind === 'data') {
      blocks.data.copy(this.chunk, this.position % CHUNK_SIZE);
      this.chunkHasData = true;
      await this.advance(blocks.data.length);
      return;
    }
    for (let left = blocks.length; left > 0;) {
      const n = Math.min(left, CHUNK_SIZE - (this.position % CHUNK_SIZE));
      await this.advance(n);
      left -= n;
    }
  }

  private async advance(length: number): Promise<void> {
    this.position += length;
    if (this.position > this.sizeBytes) throw new CliError('the stream is longer than the volume');
    if (this.position % CHUNK_SIZE !== 0 && this.position !== this.sizeBytes) return;
    const index = Math.ceil(this.position / CHUNK_SIZE) - 1;
    const data = this.chunk.subarray(0, this.digests.lengthOf(index));
    const digest = chunkDigest(data);
    this.digests.set(index, digest);
    this.tree.update(digest);
    if (this.chunkHasData) {
      await writeBlocks(this.file, { kind: 'data', offset: index * CHUNK_SIZE, data });
      this.chunk.fill(0);
      this.chunkHasData = false;
    }
    this.writtenBytes = this.position;
  }

  /** The digests, when the whole volume was written. */
  finish(): ChunkDigests {
    if (this.position !== this.sizeBytes) {
      throw new CliError(
        `the stream ended at byte ${String(this.position)} of ${String(this.sizeBytes)}`,
      );
    }
    return this.digests;
  }
}
