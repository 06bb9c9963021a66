// SPDX-License-Identifier: Apache-2.0
// The checksums in a stream of blocks, for the agent that sends it and the client that checks it: of each chunk SHA-256 of what the
// stream has of it, its data and zeros in ascending order. Chunks of which no data came have none.
import { hash, webcrypto } from 'node:crypto';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { CHUNK_SIZE } from './chunks.js';
import { piecesIn, type StreamPiece } from './stream-pieces.js';

/** What is smaller is hashed at once: to hand it to another thread would take as long. */
const WORTH_A_THREAD = 64 * 1024;

/** Most of them have been computed, in other threads, when so many are to be sent. */
const DIGESTS_PER_MESSAGE = 32;

export interface StreamDigest {
  /** Number of the chunk in the volume. */
  index: number;
  sha256: Promise<Buffer>;
}

/** `content` may be overwritten at once: what another thread hashes was copied (W3C, Web Cryptography, SubtleCrypto.digest). */
async function sha256(content: Buffer): Promise<Buffer> {
  if (content.length < WORTH_A_THREAD) return hash('sha256', content, 'buffer');
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', content));
}

/** Computes the digests of a stream whose pieces pass by; it keeps none of them. */
export class StreamDigests {
  /** The chunk to which the last piece belongs. */
  index = -1;
  /** What came of that chunk. */
  private readonly content = Buffer.allocUnsafeSlow(CHUNK_SIZE);
  private length = 0;
  private hasData = false;

  /** Takes a piece behind all former ones; returns the digests of chunks of which nothing can come any more. */
  add(piece: StreamPiece): StreamDigest[] {
    const done: StreamDigest[] = [];
    if (piece.kind === 'skipped') return done;
    const { offset } = piece;
    const data = piece.kind === 'data' ? piece.data : undefined;
    const end = offset + (piece.kind === 'data' ? piece.data.length : piece.length);
    for (let at = offset; at < end;) {
      const index = Math.floor(at / CHUNK_SIZE);
      const next = Math.min(end, (index + 1) * CHUNK_SIZE);
      if (index !== this.index) done.push(...this.finish());
      this.index = index;
      if (data) data.copy(this.content, this.length, at - offset, next - offset);
      else this.content.fill(0, this.length, this.length + next - at);
      this.length += next - at;
      this.hasData ||= data !== undefined;
      // Chunks in the middle of a hole are all zero.
      at = data ? next : Math.max(next, Math.floor(end / CHUNK_SIZE) * CHUNK_SIZE);
    }
    return done;
  }

  /** The digest of the chunk of the last piece, if it has one: nothing else of it comes. */
  finish(): StreamDigest[] {
    const { index, content, length, hasData } = this;
    this.length = 0;
    this.hasData = false;
    return hasData ? [{ index, sha256: sha256(content.subarray(0, length)) }] : [];
  }
}

async function message(digests: readonly StreamDigest[]): Promise<ReadBlocksResponse> {
  const all = digests.map(async ({ index, sha256 }) => {
    return { offsetBytes: BigInt(index * CHUNK_SIZE), sha256: await sha256 };
  });
  return { content: { $case: 'digests', value: { digests: await Promise.all(all) } } };
}

/** The messages of a stream, with those of its digests among them. */
export async function* withDigests(
  messages: AsyncIterable<ReadBlocksResponse> | Iterable<ReadBlocksResponse>,
): AsyncGenerator<ReadBlocksResponse> {
  const digests = new StreamDigests();
  let complete: StreamDigest[] = [];
  for await (const next of messages) {
    for (const piece of piecesIn(next.content)) complete.push(...digests.add(piece));
    yield next;
    if (complete.length >= DIGESTS_PER_MESSAGE) {
      yield await message(complete);
      complete = [];
    }
  }
  complete.push(...digests.finish());
  if (complete.length > 0) yield await message(complete);
}
