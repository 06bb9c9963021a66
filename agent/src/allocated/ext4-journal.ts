// SPDX-License-Identifier: Apache-2.0
// Is the journal of an ext3 or ext4 empty? The superblock says so, and the journal itself must agree.
import { HIGH, type Ext4 } from './ext4-superblock.js';
import type { Ext4Groups } from './ext4-groups.js';
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';

const JOURNAL_MAGIC = 0xc03b_3998;
const SUPERBLOCK_V1 = 3;
const SUPERBLOCK_V2 = 4;
const JOURNAL_SUPERBLOCK_SIZE = 1024;

const EXTENTS_FLAG = 0x8_0000;
const EXTENT_MAGIC = 0xf30a;
const DEEPEST_TREE = 5;
const BLOCK_MAP_OFFSET = 40;
const BLOCK_MAP_SIZE = 60;

/** The first block of an inode's content. */
async function firstBlockOf(image: ImageReader, fs: Ext4, groups: Ext4Groups): Promise<number> {
  const number = fs.journalInode - 1;
  const group = Math.floor(number / fs.inodesPerGroup);
  insist(group < fs.nrGroups, 'the inode of its journal is impossible');
  const offset =
    groups.get(group).inodeTable * fs.blockSize + (number % fs.inodesPerGroup) * fs.inodeSize;
  const inode = await image.read(offset, fs.inodeSize);
  let node = inode.subarray(BLOCK_MAP_OFFSET, BLOCK_MAP_OFFSET + BLOCK_MAP_SIZE);
  if ((inode.readUInt32LE(32) & EXTENTS_FLAG) === 0) return node.readUInt32LE(0);
  for (let level = 0; level <= DEEPEST_TREE; level += 1) {
    const [magic, entries, depth] = [
      node.readUInt16LE(0),
      node.readUInt16LE(2),
      node.readUInt16LE(6),
    ];
    insist(
      magic === EXTENT_MAGIC && entries > 0 && node.readUInt32LE(12) === 0,
      'the place of its journal is damaged',
    );
    if (depth === 0) return node.readUInt32LE(20) + node.readUInt16LE(18) * HIGH;
    const child = node.readUInt32LE(16) + node.readUInt16LE(20) * HIGH;
    node = await image.read(child * fs.blockSize, fs.blockSize);
  }
  insist(false, 'the place of its journal is damaged');
}

/** Rejects with AllocationUnknownError unless the journal, if there is one on this device, has nothing to replay. */
export async function insistOnEmptyJournal(
  image: ImageReader,
  fs: Ext4,
  groups: Ext4Groups,
): Promise<void> {
  if (fs.journalInode === 0) return;
  const block = await firstBlockOf(image, fs, groups);
  const journal = await image.read(block * fs.blockSize, JOURNAL_SUPERBLOCK_SIZE);
  const type = journal.readUInt32BE(4);
  insist(
    journal.readUInt32BE(0) === JOURNAL_MAGIC && (type === SUPERBLOCK_V1 || type === SUPERBLOCK_V2),
    'its journal is damaged',
  );
  insist(journal.readUInt32BE(28) === 0, 'its journal has not been replayed');
  insist(journal.readInt32BE(32) === 0, 'its journal has an error');
}
