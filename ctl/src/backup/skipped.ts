// SPDX-License-Identifier: Apache-2.0
// Blocks that a backup does not tell of, because the filesystem did not use them: what it holds there means nothing.
import { z } from 'zod';
import { blocksOf, ChangeMap } from '../../../agent/src/changes/change-map.js';
import { RunList } from '../../../agent/src/changes/run-list.js';
import { BLOCK_SIZE } from '../../../agent/src/driver/layout.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { lengthOf, type Blocks } from './blocks.js';

const CHUNK_BLOCKS = CHUNK_SIZE / BLOCK_SIZE;

/** In a manifest: ascending runs, each the number of its first block of 4096 bytes and how many there are. */
export const skippedSchema = z.array(z.tuple([z.int().nonnegative(), z.int().positive()]));

export type SkippedRuns = z.infer<typeof skippedSchema>;

export function skippedToManifest(skipped: ChangeMap): SkippedRuns {
  return Array.from(skipped.runs, ({ first, count }) => [first, count]);
}

export function skippedFromManifest(runs: SkippedRuns, sizeBytes: number): ChangeMap {
  return ChangeMap.fromRuns(
    blocksOf(BigInt(sizeBytes)),
    runs.map(([first, count]) => ({ first, count })),
  );
}

/** What a stream brought, and what it skipped. */
export class Coverage {
  private readonly sent = new RunList();
  private readonly skipped = new RunList();

  constructor(private readonly sizeBytes: number) {}

  /** That of a stream of which a part has come before: `sent` and `skipped`, both before all that will be added. */
  static after(sizeBytes: number, sent: ChangeMap, skipped: ChangeMap): Coverage {
    const coverage = new Coverage(sizeBytes);
    for (const { first, count } of sent.runs) coverage.sent.add(first, count);
    for (const { first, count } of skipped.runs) coverage.skipped.add(first, count);
    return coverage;
  }

  add(kind: Blocks['kind'], offset: number, length: number): void {
    const first = offset / BLOCK_SIZE;
    const end = Math.ceil((offset + length) / BLOCK_SIZE);
    const runs = kind === 'skipped' ? this.skipped : this.sent;
    runs.add(first, end - first);
  }

  /** The blocks, which pass by, and are added. */
  async *watch(blocks: AsyncIterable<Blocks>): AsyncGenerator<Blocks> {
    for await (const piece of blocks) {
      this.add(piece.kind, piece.offset, lengthOf(piece));
      yield piece;
    }
  }

  /** The chunks of which the stream brought something, but not all. */
  *partlySent(): Generator<number> {
    const nrBlocks = blocksOf(BigInt(this.sizeBytes));
    let last = -1;
    for (const { first, count } of this.sent) {
      const end = first + count;
      for (let index = Math.floor(first / CHUNK_BLOCKS); index * CHUNK_BLOCKS < end; index += 1) {
        const start = index * CHUNK_BLOCKS;
        // Runs never touch: two of them leave a gap.
        const isWhole = first <= start && end >= Math.min(start + CHUNK_BLOCKS, nrBlocks);
        if (!isWhole && index !== last) yield index;
        last = index;
      }
    }
  }

  /** What was skipped before a byte that no block lies across, as a manifest has it. */
  skippedBefore(offset: number): SkippedRuns {
    const end = Math.ceil(offset / BLOCK_SIZE);
    const runs: SkippedRuns = [];
    for (const { first, count } of this.skipped) {
      if (first < end) runs.push([first, Math.min(count, end - first)]);
    }
    return runs;
  }

  /** What is skipped in the backup that the stream makes of one in which `before` was skipped. */
  over(before: ChangeMap | undefined): ChangeMap {
    const nrBlocks = blocksOf(BigInt(this.sizeBytes));
    const skipped = ChangeMap.fromRuns(nrBlocks, this.skipped);
    if (!before) return skipped;
    const sent = ChangeMap.fromRuns(nrBlocks, this.sent);
    return before.intersection(sent.complement()).union(skipped);
  }
}
