// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';

const DIGEST_SIZE = 32;

/** The SHA-256 digests of the chunks of a backup. */
export class ChunkDigests {
  readonly count: number;

  private constructor(
    readonly sizeBytes: number,
    private readonly bytes: Buffer,
  ) {
    this.count = Math.ceil(sizeBytes / CHUNK_SIZE);
  }

  static empty(sizeBytes: number): ChunkDigests {
    return new ChunkDigests(
      sizeBytes,
      Buffer.alloc(Math.ceil(sizeBytes / CHUNK_SIZE) * DIGEST_SIZE),
    );
  }

  /** From the form in which a manifest holds them; undefined when they are not those of that size. */
  static parse(text: string, sizeBytes: number): ChunkDigests | undefined {
    const bytes = Buffer.from(text, 'base64');
    const digests = new ChunkDigests(sizeBytes, bytes);
    return bytes.length === digests.count * DIGEST_SIZE ? digests : undefined;
  }

  toString(): string {
    return this.bytes.toString('base64');
  }

  /** Length of a chunk in bytes. */
  lengthOf(index: number): number {
    return Math.min(CHUNK_SIZE, this.sizeBytes - index * CHUNK_SIZE);
  }

  set(index: number, digest: Buffer): void {
    digest.copy(this.bytes, index * DIGEST_SIZE);
  }

  get(index: number): Buffer {
    return this.bytes.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE);
  }

  /** Those of the chunks before a byte, the end of a chunk, one after the other. */
  before(offset: number): Buffer {
    return this.bytes.subarray(0, Math.ceil(offset / CHUNK_SIZE) * DIGEST_SIZE);
  }

  matches(index: number, data: Buffer): boolean {
    return this.get(index).equals(chunkDigest(data));
  }

  /** SHA-256 of all digests in order, as restore.proto defines sha256_tree. */
  tree(): string {
    return createHash('sha256').update(this.bytes).digest('hex');
  }
}
