// SPDX-License-Identifier: Apache-2.0
// What change and data streams have in common: which snapshot, which part of it.
import { status } from '@grpc/grpc-js';
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import { ChangeMap } from '../changes/change-map.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { AgentError } from '../errors.js';
import { ChangesUnknownError, type Position } from '../state/chains.js';
import type { Trackers } from './trackers.js';

/** First block of a stream that begins at `offsetBytes`. */
export function startingBlock(offsetBytes: bigint, sizeBytes: bigint): number {
  const block = BigInt(BLOCK_SIZE);
  if (offsetBytes % block !== 0n && offsetBytes !== sizeBytes) {
    throw new AgentError(
      status.INVALID_ARGUMENT,
      'BAD_ARGUMENT',
      `starting_offset_bytes ${String(offsetBytes)} is not a multiple of ${String(BLOCK_SIZE)}`,
    );
  }
  if (offsetBytes > sizeBytes) {
    throw new AgentError(
      status.OUT_OF_RANGE,
      'OFFSET_BEHIND_END',
      `starting_offset_bytes ${String(offsetBytes)} is behind the end of the volume (${String(sizeBytes)})`,
    );
  }
  return Number((offsetBytes + block - 1n) / block);
}

/** The changes since a cookie; FAILED_PRECONDITION says why there are none to be told. */
export async function changesSince(
  trackers: Trackers,
  since: Cookie,
  position: Position,
): Promise<ChangeMap> {
  try {
    return await trackers.chains.changesSince(since, position);
  } catch (error) {
    if (!(error instanceof ChangesUnknownError)) throw error;
    throw new AgentError(
      status.FAILED_PRECONDITION,
      'CHANGES_UNKNOWN',
      `the changes since snapshot ${String(since.seqId)} of ${since.uuid} are not known: ${error.message}; take a full`,
      { uuid: since.uuid, seq_id: String(since.seqId) },
    );
  }
}

/** FAILED_PRECONDITION when the caller expects another snapshot than this one. */
export function insistOnCookie(expected: Cookie | undefined, cookie: Cookie, minor: number): void {
  if (!expected || sameCookie(expected, cookie)) return;
  throw new AgentError(
    status.FAILED_PRECONDITION,
    'COOKIE_MISMATCH',
    `the image of snapshot ${String(minor)} is not the one that was asked for: it is seq_id ${String(cookie.seqId)} of ${cookie.uuid}`,
    { minor: String(minor) },
  );
}

export function sameCookie(a: Cookie, b: Cookie): boolean {
  return a.uuid === b.uuid && a.seqId === b.seqId && a.nonce === b.nonce;
}
