// SPDX-License-Identifier: Apache-2.0
// Chunks: the unit of messages and of checksums.
import { createHash } from 'node:crypto';

/** Messages hold at most one chunk and do not cross its ends; checksums are of whole ones. */
export const CHUNK_SIZE = 1 << 20;

const zeros = Buffer.alloc(CHUNK_SIZE);
const zeroDigests = new Map<number, Buffer>();

function sha256(data: Buffer): Buffer {
  return createHash('sha256').update(data).digest();
}

/** Are these bytes, at most one chunk, all zero? */
export function isZero(data: Buffer): boolean {
  return data.equals(zeros.subarray(0, data.length));
}

/** SHA-256 of a chunk. Much of most volumes is zero: that is hashed once for each length. */
export function chunkDigest(data: Buffer): Buffer {
  if (!isZero(data)) return sha256(data);
  const known = zeroDigests.get(data.length);
  if (known) return known;
  const digest = sha256(data);
  zeroDigests.set(data.length, digest);
  return digest;
}
