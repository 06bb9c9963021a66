// SPDX-License-Identifier: Apache-2.0
import { ChangeMap } from '../changes/change-map.js';
import { RunList } from '../changes/run-list.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { insist } from './unknown.js';

/** Free runs that are remembered at most, 16 bytes each: what a map of them takes must not depend on how fragmented a volume is. */
const MOST_RUNS = 1 << 18;

/**
 * Collects what a filesystem says is free. Whatever it does not say so of counts as allocated: what is before and behind it on the
 * device, too, and blocks of which only a part is free.
 */
export class FreeSpace {
  /** Free runs of whole blocks, as pairs of first block and end. */
  private pairs: number[] = [];
  /** Runs of fewer blocks count as allocated. */
  private smallest = 1;
  private startBytes = 0;
  private endBytes = 0;

  constructor(
    private readonly nrBlocks: number,
    private readonly mostRuns = MOST_RUNS,
  ) {}

  /** Free bytes [start, end). They ascend from call to call; those that touch are one run. */
  add(startBytes: number, endBytes: number): void {
    insist(
      startBytes >= this.endBytes && endBytes > startBytes,
      'what it says is free overlaps itself',
    );
    if (startBytes > this.endBytes) {
      this.flush();
      this.startBytes = startBytes;
    }
    this.endBytes = endBytes;
  }

  /** The blocks that are not free. Nothing can be added after it. */
  allocated(): ChangeMap {
    this.flush();
    const runs = new RunList();
    let at = 0;
    for (let i = 0; i < this.pairs.length; i += 2) {
      const first = this.pairs[i] ?? 0;
      runs.add(at, first - at);
      at = this.pairs[i + 1] ?? 0;
    }
    runs.add(at, this.nrBlocks - at);
    return ChangeMap.fromRuns(this.nrBlocks, runs);
  }

  private flush(): void {
    const first = Math.ceil(this.startBytes / BLOCK_SIZE);
    const end = Math.floor(this.endBytes / BLOCK_SIZE);
    if (end - first < this.smallest) return;
    this.pairs.push(first, end);
    while (this.pairs.length > 2 * this.mostRuns) this.forgetSmallest();
  }

  private forgetSmallest(): void {
    this.smallest *= 2;
    const kept: number[] = [];
    for (let i = 0; i < this.pairs.length; i += 2) {
      const first = this.pairs[i] ?? 0;
      const end = this.pairs[i + 1] ?? 0;
      if (end - first >= this.smallest) kept.push(first, end);
    }
    this.pairs = kept;
  }
}
