// SPDX-License-Identifier: Apache-2.0
// The header of an allocation group of an XFS (AGF), and the list of blocks that its trees grow from (AGFL).
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';
import type { TreeRoot } from './xfs-btree.js';
import { groupBlocks, hasRightChecksum, type Xfs } from './xfs-superblock.js';

const AGF_MAGIC = 0x5841_4746;
const AGFL_MAGIC = 0x5841_464c;
/** Header and list are in the second and the fourth sector of a group. */
const AGF_SECTOR = 1;
const AGFL_SECTOR = 3;
const AGFL_HEADER = 36;

/** A group as its header tells it. Blocks are counted from the start of the group. */
export interface XfsGroup {
  byBlock: TreeRoot;
  bySize: TreeRoot;
  freeBlocks: number;
  longest: number;
  /** Blocks of the two trees of free extents besides their roots; undefined: they are not counted. */
  treeBlocks: number | undefined;
  /** Some that cannot be free: those of the list, and the roots of other trees. */
  usedBlocks: number[];
  /** What is not free, but the superblock counts as such: the list, and the trees besides their roots. */
  spareBlocks: number;
}

function parseList(fs: Xfs, group: number, agf: Buffer, list: Buffer): number[] {
  const name = `the list of allocation group ${String(group)}`;
  if (fs.hasChecksums) {
    insist(
      list.readUInt32BE(0) === AGFL_MAGIC &&
        list.readUInt32BE(4) === group &&
        list.subarray(8, 24).equals(fs.metaUuid) &&
        hasRightChecksum(list, 32),
      `${name} is damaged`,
    );
  }
  const header = fs.hasChecksums ? AGFL_HEADER : 0;
  const size = Math.floor((fs.sectorSize - header) / 4);
  const [first, last, count] = [agf.readUInt32BE(40), agf.readUInt32BE(44), agf.readUInt32BE(48)];
  insist(
    first < size && last < size && count <= size && (first + count - 1 - last + size) % size === 0,
    `${name} has impossible ends`,
  );
  return Array.from({ length: count }, (_, i) =>
    list.readUInt32BE(header + ((first + i) % size) * 4),
  );
}

/** Rejects with AllocationUnknownError when header or list are damaged. */
export async function readXfsGroup(image: ImageReader, fs: Xfs, group: number): Promise<XfsGroup> {
  const start = group * fs.blocksPerGroup * fs.blockSize;
  const sectors = await image.read(start, (AGFL_SECTOR + 1) * fs.sectorSize);
  const sector = (number: number): Buffer =>
    sectors.subarray(number * fs.sectorSize, (number + 1) * fs.sectorSize);
  const agf = sector(AGF_SECTOR);
  const u32 = (at: number): number => agf.readUInt32BE(at);
  const name = `allocation group ${String(group)}`;
  insist(u32(0) === AGF_MAGIC && u32(4) === 1 && u32(8) === group, `${name} has no header`);
  if (fs.hasChecksums) {
    insist(
      agf.subarray(64, 80).equals(fs.metaUuid) && hasRightChecksum(agf, 216),
      `the header of ${name} is damaged`,
    );
  }
  const blocks = groupBlocks(fs, group);
  insist(u32(12) === blocks, `the length of ${name} is wrong`);
  const listed = parseList(fs, group, agf, sector(AGFL_SECTOR));
  const usedBlocks = [...listed];
  if (fs.hasRmap) usedBlocks.push(u32(24));
  if (fs.hasReflink) usedBlocks.push(u32(88));
  insist(
    usedBlocks.every((block) => block < blocks),
    `${name} uses blocks that it has not`,
  );
  // Those of the tree of owners are counted with them; its root is in its own number of blocks.
  const ownerBlocks = fs.hasRmap ? u32(80) - 1 : 0;
  const byBlock = { block: u32(16), levels: u32(28) };
  const bySize = { block: u32(20), levels: u32(32) };
  return {
    byBlock,
    bySize,
    freeBlocks: u32(52),
    longest: u32(56),
    treeBlocks: fs.countsLazily ? u32(60) - ownerBlocks : undefined,
    usedBlocks,
    spareBlocks: listed.length + u32(60),
  };
}
