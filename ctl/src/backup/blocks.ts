// SPDX-License-Identifier: Apache-2.0

/**
 * A part of a volume: data, a run of zeros, or a run of blocks whose content means nothing. Offsets and lengths are bytes, exact up to
 * 2^53.
 */
export type Blocks =
  | { kind: 'data'; offset: number; data: Buffer }
  | { kind: 'hole' | 'skipped'; offset: number; length: number };

export function lengthOf(blocks: Blocks): number {
  return blocks.kind === 'data' ? blocks.data.length : blocks.length;
}
