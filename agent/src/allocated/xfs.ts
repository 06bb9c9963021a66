// SPDX-License-Identifier: Apache-2.0
// What XFS has allocated: all but the free extents of its allocation groups.
import type { ChangeMap } from '../changes/change-map.js';
import { FreeSpace } from './free-space.js';
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';
import { BY_BLOCK, BY_SIZE, ExtentSums, FreeTree } from './xfs-btree.js';
import { readXfsGroup } from './xfs-group.js';
import { insistOnCleanLog } from './xfs-log.js';
import { readXfsSuperblock, type Xfs } from './xfs-superblock.js';

/** Blocks of a group that cannot be free, ascending from question to question. */
class UsedBlocks {
  private at = 0;

  /** Throws AllocationUnknownError when two things are in the same block. */
  constructor(private readonly blocks: number[]) {
    blocks.sort((a, b) => a - b);
    insist(
      blocks.every((block, i) => block !== blocks[i + 1]),
      'it uses a block twice',
    );
  }

  hasOneIn(start: number, end: number): boolean {
    while ((this.blocks[this.at] ?? Infinity) < start) this.at += 1;
    return (this.blocks[this.at] ?? Infinity) < end;
  }
}

/** Adds what is free in a group. Returns how many blocks the superblock may count for it at most. */
async function addGroup(
  image: ImageReader,
  fs: Xfs,
  number: number,
  free: FreeSpace,
): Promise<number> {
  const group = await readXfsGroup(image, fs, number);
  const bySize = new FreeTree(image, fs, number, BY_SIZE, group.bySize);
  const byBlock = new FreeTree(image, fs, number, BY_BLOCK, group.byBlock);
  const treeBlocks = [await bySize.blocks(), await byBlock.blocks()].flat();
  insist(
    group.treeBlocks === undefined || group.treeBlocks === treeBlocks.length - 2,
    `the trees of allocation group ${String(number)} are not as large as it says`,
  );
  const used = new UsedBlocks([...group.usedBlocks, ...treeBlocks]);
  const start = number * fs.blocksPerGroup;
  const { start: logStart, blocks: logBlocks } = fs.log ?? { start: 0, blocks: 0 };
  const expected = new ExtentSums();
  for await (const extents of bySize.leaves()) {
    for (const extent of extents) expected.add(extent);
  }
  const found = new ExtentSums();
  for await (const extents of byBlock.leaves()) {
    for (const extent of extents) {
      const end = extent.start + extent.count;
      insist(
        !used.hasOneIn(extent.start, end) &&
          (start + end <= logStart || start + extent.start >= logStart + logBlocks),
        `metadata are marked as free in allocation group ${String(number)}`,
      );
      found.add(extent);
      free.add((start + extent.start) * fs.blockSize, (start + end) * fs.blockSize);
    }
  }
  insist(
    found.equals(expected) && found.blocks === group.freeBlocks && found.longest === group.longest,
    `allocation group ${String(number)} does not agree with itself on what is free`,
  );
  return group.freeBlocks + group.spareBlocks;
}

/**
 * The blocks that an XFS has allocated, and all that is not its own. Rejects with AllocationUnknownError when anything about it is not
 * as it must be: both trees of free extents are read and have to agree with each other and with their group, and the log must be clean.
 */
export async function readXfsAllocated(image: ImageReader, nrBlocks: number): Promise<ChangeMap> {
  const fs = await readXfsSuperblock(image);
  await insistOnCleanLog(image, fs);
  const free = new FreeSpace(nrBlocks);
  let most = 0;
  for (let number = 0; number < fs.nrGroups; number += 1) {
    most += await addGroup(image, fs, number, free);
  }
  // What is promised, to writes that have no place yet or to trees that may grow, is free in the groups only.
  insist(fs.freeBlocks <= most, 'it says that it has more free blocks than its groups have');
  return free.allocated();
}
