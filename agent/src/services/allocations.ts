// SPDX-License-Identifier: Apache-2.0
// What the filesystems in images have allocated: read once for each snapshot.
import type { FileHandle } from 'node:fs/promises';
import { readAllocated } from '../allocated/allocated.js';
import { DeviceReader } from '../allocated/image-reader.js';
import { AllocationUnknownError } from '../allocated/unknown.js';
import { ChangeMap } from '../changes/change-map.js';
import { BLOCK_SIZE } from '../driver/layout.js';

/** A snapshot, and the image device that shows it. */
export interface SnapshotImage {
  minor: number;
  uuid: string;
  seqId: bigint;
  sizeBytes: bigint;
}

/** The blocks that count as allocated, or why that cannot be told. */
export type Allocation = { map: ChangeMap } | { reason: string };

/** Runs of free blocks that are shorter are sent: a message has its price, and so has a read that is cut in two. */
const SMALLEST_SKIP_BLOCKS = (64 * 1024) / BLOCK_SIZE;

/** What of the wanted blocks is sent, and what is not. */
export function splitByAllocation(
  wanted: ChangeMap,
  allocation: Allocation | undefined,
): { map: ChangeMap; skipped: ChangeMap } {
  if (!allocation || 'reason' in allocation) {
    return { map: wanted, skipped: ChangeMap.empty(wanted.nrBlocks) };
  }
  const sent = allocation.map.withoutGapsBelow(SMALLEST_SKIP_BLOCKS);
  return {
    map: wanted.intersection(sent),
    skipped: wanted.intersection(sent.complement()),
  };
}

interface Entry {
  uuid: string;
  seqId: bigint;
  allocation: Promise<Allocation>;
}

/** The allocations of the snapshots that there are, one for each minor. */
export class Allocations {
  private readonly entries = new Map<number, Entry>();

  /** `check` rejects when what was read is not for sure of that snapshot. */
  constructor(
    private readonly open: (minor: number) => Promise<FileHandle>,
    private readonly check: (image: SnapshotImage) => Promise<void>,
  ) {}

  /**
   * What is allocated in the image of a snapshot. Callers that ask at the same time wait for the same reading. Rejects when the image
   * cannot be read; the next caller tries again.
   */
  of(image: SnapshotImage): Promise<Allocation> {
    const { minor, uuid, seqId } = image;
    const known = this.entries.get(minor);
    if (known?.uuid === uuid && known.seqId === seqId) return known.allocation;
    const entry: Entry = { uuid, seqId, allocation: this.read(image) };
    this.entries.set(minor, entry);
    entry.allocation.catch(() => {
      if (this.entries.get(minor) === entry) this.entries.delete(minor);
    });
    return entry.allocation;
  }

  /** Forgets all snapshots but these. */
  keepOnly(snapshots: readonly Pick<SnapshotImage, 'minor' | 'uuid' | 'seqId'>[]): void {
    for (const [minor, { uuid, seqId }] of this.entries) {
      const lives = snapshots.some(
        (s) => s.minor === minor && s.uuid === uuid && s.seqId === seqId,
      );
      if (!lives) this.entries.delete(minor);
    }
  }

  private async read(image: SnapshotImage): Promise<Allocation> {
    const file = await this.open(image.minor);
    let allocation: Allocation;
    try {
      allocation = { map: await readAllocated(new DeviceReader(file, image.sizeBytes)) };
    } catch (error) {
      if (!(error instanceof AllocationUnknownError)) throw error;
      allocation = { reason: error.message };
    } finally {
      await file.close();
    }
    await this.check(image);
    return allocation;
  }
}
