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

/** SHA-256 of so many zeros, at most one chunk: of each length it is computed once. */
export function zeroDigest(length: number): Buffer {
  const known = zeroDigests.get(length);
  if (known) return known;
  const digest = sha256(zeros.subarray(0, length));
  zeroDigests.set(length, digest);
  return digest;
}

/** SHA-256 of a chunk. Much of most volumes is zero: that is not hashed again and again. */
export function chunkDigest(data: Buffer): Buffer {
  return isZero(data) ? zeroDigest(data.length) : sha256(data);
}
