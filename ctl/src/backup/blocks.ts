// SPDX-License-Identifier: Apache-2.0
import type { StreamPiece } from '../../../agent/src/services/stream-pieces.js';

/** A part of a volume: data, or a run of zeros. Offsets and lengths are bytes, exact up to 2^53. */
export type Content =
  { kind: 'data'; offset: number; data: Buffer } | { kind: 'hole'; offset: number; length: number };

/** The same, or a run of blocks whose content means nothing. */
export type Blocks = StreamPiece;

export function lengthOf(blocks: Blocks): number {
  return blocks.kind === 'data' ? blocks.data.length : blocks.length;
}
