// SPDX-License-Identifier: Apache-2.0
import type { Snapshot } from '../../proto/gen/elio/v1/types.js';

/** How full the COW file of a snapshot is, from 0 to 1. Undefined where nothing is copied: it is not in snapshot mode. */
export function cowFill({ cowUsedBytes, cowSizeBytes }: Snapshot): number | undefined {
  if (cowUsedBytes === 0n || cowSizeBytes === 0n) return undefined;
  // The block that no longer found room is counted, too.
  return Math.min(Number(cowUsedBytes) / Number(cowSizeBytes), 1);
}
