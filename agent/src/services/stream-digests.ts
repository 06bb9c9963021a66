// SPDX-License-Identifier: Apache-2.0
// The checksums in a stream of blocks, for the agent that sends it and the client that checks it: of each chunk SHA-256 of what the
// stream has of it, its data and zeros in ascending order. Chunks of which no data came have none.
import { createHash, webcrypto } from 'node:crypto';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';
import { CHUNK_SIZE } from './chunks.js';

/** What is smaller is hashed at once: to hand it to another thread would cost more. */
const WORTH_A_THREAD = 64 * 1024;

/** Digests are computed while so many others are: one thread may hash while messages are being sent. */
const MOST_UNDER_WAY = 4;

const zeros = Buffer.alloc(CHUNK_SIZE);

export interface StreamDigest {
  /** Number of the chunk in the volume. */
  index: number;
  sha256: Promise<Buffer>;
}

async function sha256(parts: readonly Buffer[]): Promise<Buffer> {
  const bytes = parts.reduce((sum, { length }) => sum + length, 0);
  if (bytes >= WORTH_A_THREAD) {
    return Buffer.from(await webcrypto.subtle.digest('SHA-256', Buffer.concat(parts)));
  }
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Computes the digests of a stream whose pieces pass by. */
export class StreamDigests {
  /** The chunk to which the last piece belongs. */
  index = -1;
  private parts: Buffer[] = [];
  private hasData = false;

  /** Takes data, or a length of zeros, behind all former ones; returns the digests of chunks of which nothing can come any more. */
  add(offset: number, content: Buffer | number): StreamDigest[] {
    const done: StreamDigest[] = [];
    const isHole = typeof content === 'number';
    const end = offset + (isHole ? content : content.length);
    for (let at = offset; at < end;) {
      const index = Math.floor(at / CHUNK_SIZE);
      const next = Math.min(end, (index + 1) * CHUNK_SIZE);
      if (index !== this.index) done.push(...this.finish());
      this.index = index;
      this.parts.push(
        isHole ? zeros.subarray(0, next - at) : content.subarray(at - offset, next - offset),
      );
      this.hasData ||= !isHole;
      // Chunks in the middle of a hole are all zero.
      at = isHole ? Math.max(next, Math.floor(end / CHUNK_SIZE) * CHUNK_SIZE) : next;
    }
    return done;
  }

  /** The digest of the chunk of the last piece, if it has one: nothing else of it comes. */
  finish(): StreamDigest[] {
    const { index, parts, hasData } = this;
    this.parts = [];
    this.hasData = false;
    return hasData ? [{ index, sha256: sha256(parts) }] : [];
  }
}

async function message({ index, sha256 }: StreamDigest): Promise<ReadBlocksResponse> {
  const value = { offsetBytes: BigInt(index * CHUNK_SIZE), sha256: await sha256 };
  return { content: { $case: 'digest', value } };
}

/** The messages of a stream, with those of its digests among them. */
export async function* withDigests(
  messages: AsyncIterable<ReadBlocksResponse> | Iterable<ReadBlocksResponse>,
): AsyncGenerator<ReadBlocksResponse> {
  const digests = new StreamDigests();
  const underWay: StreamDigest[] = [];
  for await (const next of messages) {
    const { content } = next;
    if (content?.$case === 'data') {
      underWay.push(...digests.add(Number(content.value.offsetBytes), content.value.data));
    }
    if (content?.$case === 'hole') {
      const { offsetBytes, lengthBytes } = content.value;
      underWay.push(...digests.add(Number(offsetBytes), Number(lengthBytes)));
    }
    yield next;
    while (underWay.length > MOST_UNDER_WAY) {
      const oldest = underWay.shift();
      if (oldest) yield await message(oldest);
    }
  }
  for (const digest of [...underWay, ...digests.finish()]) yield await message(digest);
}
