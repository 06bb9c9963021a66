// SPDX-License-Identifier: Apache-2.0
// How large a COW file is: a header, an index with an entry for each block of the origin, and the saved blocks.

export const BLOCK_SIZE = 4096;
export const COW_INDEX_OFFSET = 4096;
/** The index grows by sections of so many entries of 8 bytes. */
export const COW_SECTION_ENTRIES = 4096;

/** The module parameter cow_fallocate_percentage_default can be read nowhere; nearly everybody leaves it as it is. */
export const DEFAULT_PERCENT = 10n;

const MIB = 1n << 20n;

/** Where the saved blocks of an origin of that size begin. */
export function cowDataOffset(sizeBytes: bigint): bigint {
  const entries = BigInt(COW_SECTION_ENTRIES);
  // A last block that is not whole has its entry in the header.
  const sections = (sizeBytes / BigInt(BLOCK_SIZE) + entries - 1n) / entries;
  return BigInt(COW_INDEX_OFFSET) + sections * entries * 8n;
}

/** Bytes in use when so many blocks of an origin of that size have changed since the snapshot. */
export function cowUsedBytes(sizeBytes: bigint, nrChangedBlocks: bigint): bigint {
  return cowDataOffset(sizeBytes) + nrChangedBlocks * BigInt(BLOCK_SIZE);
}

/** Bytes in MiB, rounded up: the driver takes sizes of COW files in whole ones. */
export function toMib(sizeBytes: bigint): bigint {
  return (sizeBytes + MIB - 1n) / MIB;
}

/** The smallest COW file, in bytes, that the driver takes for an origin of that size: 1 MiB for saved blocks. */
export function smallestCowSizeBytes(sizeBytes: bigint): bigint {
  return cowDataOffset(sizeBytes) + MIB;
}

/** The same in whole MiB. */
export function smallestCowSizeMib(sizeBytes: bigint): bigint {
  return toMib(smallestCowSizeBytes(sizeBytes));
}
