// SPDX-License-Identifier: Apache-2.0
// The chunks of a backup on their way to a target: each is checked before it goes, and may stay away when the target holds it.
import { CHUNK_SIZE, chunkDigest, isZero } from '../../../agent/src/services/chunks.js';
import { CliError } from '../errors.js';
import { checkInterrupt } from '../interrupt.js';
import type { Progress } from '../progress.js';
import { lengthOf, type Content } from './blocks.js';
import { ChunkDigests } from './digests.js';
import type { VolumeReader } from './target.js';
import type { TargetDigests } from './target-digests.js';

/** Chunks that a stream takes at a time. Zeros among them that follow each other go as one hole: a device is slow to start zeroing. */
const SPAN = 16;

/** How the bytes of a backup came to the target. Together they are all of it. */
export interface RestoredBytes {
  /** As data. */
  data: number;
  /** As zeros, of which only the length is sent. */
  zeros: number;
  /** The target held them before; undefined: nobody looked. */
  same: number | undefined;
}

/** Hands the chunks of a backup out to several streams. */
export class ChunkSource {
  private next = 0;
  private same = 0;
  private data = 0;
  private zeros = 0;
  /** Of all chunks, when all streams have ended. */
  readonly digests: ChunkDigests;

  /** With `target` what that one holds already is not handed out. */
  constructor(
    private readonly backup: VolumeReader,
    sizeBytes: number,
    private readonly target: TargetDigests | undefined,
    private readonly progress: Progress,
    private readonly signal: AbortSignal,
  ) {
    this.digests = ChunkDigests.empty(sizeBytes);
  }

  /** What one stream takes. Rejects with CliError when the backup is damaged. */
  async *pieces(): AsyncGenerator<Content> {
    const { digests } = this;
    while (this.next < digests.count) {
      const first = this.next;
      this.next = Math.min(first + SPAN, digests.count);
      const end = this.next;
      let hole: { kind: 'hole'; offset: number; length: number } | undefined;
      for (let index = first; index < end; index += 1) {
        checkInterrupt(this.signal);
        const length = digests.lengthOf(index);
        const offset = index * CHUNK_SIZE;
        const content = await this.read(index);
        if (content === 'zero') {
          hole ??= { kind: 'hole', offset, length: 0 };
          hole.length += length;
        } else {
          if (hole) yield this.count(hole);
          hole = undefined;
          if (content === 'same') this.same += length;
          else yield this.count({ kind: 'data', offset, data: content });
        }
        this.progress.advance(length);
      }
      if (hole) yield this.count(hole);
    }
  }

  /** The content of a chunk that has to be written. */
  private async read(index: number): Promise<Buffer | 'zero' | 'same'> {
    const there = await this.target?.get(index);
    const expected = this.backup.digestOf(index);
    if (there && expected?.equals(there) === true) {
      this.digests.set(index, expected);
      return 'same';
    }
    const data = Buffer.alloc(this.digests.lengthOf(index));
    await this.backup.read(data, index * CHUNK_SIZE);
    const digest = chunkDigest(data);
    if (expected?.equals(digest) === false) {
      throw new CliError(
        `the backup is damaged at byte ${String(index * CHUNK_SIZE)}: run elioctl verify`,
      );
    }
    this.digests.set(index, digest);
    if (there?.equals(digest) === true) return 'same';
    return isZero(data) ? 'zero' : data;
  }

  private count(blocks: Content): Content {
    if (blocks.kind === 'data') this.data += blocks.data.length;
    else this.zeros += lengthOf(blocks);
    return blocks;
  }

  /** What was handed out so far, or was not necessary. */
  get bytes(): RestoredBytes {
    const { data, zeros, same, target } = this;
    return { data, zeros, same: target ? same : undefined };
  }
}
