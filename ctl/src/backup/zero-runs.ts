// SPDX-License-Identifier: Apache-2.0
import { isZero } from '../../../agent/src/services/chunks.js';

const BLOCK_SIZE = 4096;

/** A part of a buffer: blocks that are all zero, or blocks of which none is. */
export interface Run {
  start: number;
  end: number;
  zero: boolean;
}

/** Data, at most a chunk, as runs of blocks; the last block may be shorter. */
export function* zeroRuns(data: Buffer): Generator<Run> {
  for (let start = 0; start < data.length;) {
    const zero = isZero(data.subarray(start, start + BLOCK_SIZE));
    let end = start + BLOCK_SIZE;
    while (end < data.length && isZero(data.subarray(end, end + BLOCK_SIZE)) === zero) {
      end += BLOCK_SIZE;
    }
    end = Math.min(end, data.length);
    yield { start, end, zero };
    start = end;
  }
}
