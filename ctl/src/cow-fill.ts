// SPDX-License-Identifier: Apache-2.0
// How much of a COW file is taken: a header, an index with an entry for each block of the origin, and the saved blocks.
import { TrackerState, type Snapshot } from '../../proto/gen/elio/v1/types.js';

const BLOCK_SIZE = 4096n;
const ENTRY_SIZE = 8n;
/** The index grows by sections of that many entries. */
const SECTION_ENTRIES = 4096n;
const MIB = 1n << 20n;

/** Where the saved blocks of an origin of that size begin: what of a COW file is taken from the start. */
export function cowDataOffset(originBytes: bigint): bigint {
  const sections = (originBytes / BLOCK_SIZE + SECTION_ENTRIES - 1n) / SECTION_ENTRIES;
  return BLOCK_SIZE + sections * SECTION_ENTRIES * ENTRY_SIZE;
}

/** The smallest COW file that the driver takes for an origin: 1 MiB for saved blocks, in whole MiB. */
export function smallestCowBytes(originBytes: bigint): bigint {
  return ((cowDataOffset(originBytes) + MIB + MIB - 1n) / MIB) * MIB;
}

/**
 * How full the COW file of a snapshot is, from 0 to 1. Undefined where nothing is copied (incremental mode), and while the
 * size of file or origin is not known.
 */
export function cowFill(snapshot: Snapshot): number | undefined {
  const { state, sizeBytes, cowSizeBytes, nrChangedBlocks } = snapshot;
  const copies =
    state === TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT ||
    state === TrackerState.TRACKER_STATE_DORMANT_SNAPSHOT;
  if (!copies || sizeBytes === 0n || cowSizeBytes === 0n) return undefined;
  const used = cowDataOffset(sizeBytes) + nrChangedBlocks * BLOCK_SIZE;
  // The block that no longer found room is counted, too.
  return Math.min(Number(used) / Number(cowSizeBytes), 1);
}
