// SPDX-License-Identifier: Apache-2.0
// The COW file that a transition to the next snapshot leaves behind; compat: COW file format.
import { open, type FileHandle } from 'node:fs/promises';
import {
  BLOCK_SIZE,
  COW_CLEAN,
  COW_HEADER,
  COW_INDEX_OFFSET,
  COW_MAGIC,
  COW_SECTION_ENTRIES,
} from '../driver/layout.js';
import { blocksOf, ChangeMap } from './change-map.js';
import { RunList, type BlockRun } from './run-list.js';

const ENTRY_SIZE = 8;
const READ_SIZE = 1 << 20;

export interface CowHeader {
  clean: boolean;
  uuid: string;
  seqId: bigint;
  nrChangedBlocks: bigint;
}

/** The header, or undefined when the file is no COW file. */
export async function readCowHeader(file: FileHandle): Promise<CowHeader | undefined> {
  const buffer = Buffer.alloc(COW_HEADER.size);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
  if (bytesRead !== buffer.length || buffer.readUInt32LE(COW_HEADER.magic) !== COW_MAGIC) {
    return undefined;
  }
  return {
    clean: (buffer.readUInt32LE(COW_HEADER.flags) & COW_CLEAN) !== 0,
    uuid: buffer.toString('hex', COW_HEADER.uuid, COW_HEADER.uuid + 16),
    seqId: buffer.readBigUInt64LE(COW_HEADER.seqid),
    nrChangedBlocks: buffer.readBigUInt64LE(COW_HEADER.nr_changed_blocks),
  };
}

/** Runs of non-zero entries, found in one piece of the index that begins at block `first`. */
function* runsOf(entries: BigUint64Array, first: number): Generator<BlockRun> {
  let start = -1;
  for (let i = 0; i <= entries.length; i += 1) {
    const changed = i < entries.length && entries[i] !== 0n;
    if (changed && start < 0) start = i;
    if (!changed && start >= 0) {
      yield { first: first + start, count: i - start };
      start = -1;
    }
  }
}

async function readFully(file: FileHandle, buffer: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) throw new Error('the index of the COW file is cut off');
    done += bytesRead;
  }
}

/**
 * The change map that a COW file holds, after its header was proved to be that of snapshot `seqId`
 * of chain `uuid`, complete and of a volume of `sizeBytes`.
 */
export async function readChangeMap(
  path: string,
  uuid: string,
  seqId: bigint,
  sizeBytes: bigint,
): Promise<ChangeMap> {
  const file = await open(path, 'r');
  try {
    const header = await readCowHeader(file);
    if (header?.uuid !== uuid || header.seqId !== seqId || !header.clean) {
      throw new Error(`${path} is not the complete COW file of snapshot ${String(seqId)}`);
    }
    const nrBlocks = blocksOf(sizeBytes);
    // The index has whole sections, of whole blocks of the volume: a short last block can lie
    // behind it, and then counts as changed.
    const indexed =
      Math.ceil(Number(sizeBytes / BigInt(BLOCK_SIZE)) / COW_SECTION_ENTRIES) * COW_SECTION_ENTRIES;
    const zeros = Buffer.alloc(READ_SIZE);
    const runs = new RunList();
    let found = 0;
    const entriesAtOnce = READ_SIZE / ENTRY_SIZE;
    for (let block = 0; block < Math.min(nrBlocks, indexed); block += entriesAtOnce) {
      const count = Math.min(entriesAtOnce, indexed - block);
      const buffer = Buffer.from(new ArrayBuffer(count * ENTRY_SIZE));
      await readFully(file, buffer, COW_INDEX_OFFSET + block * ENTRY_SIZE);
      if (buffer.equals(zeros.subarray(0, buffer.length))) continue;
      const entries = new BigUint64Array(buffer.buffer, buffer.byteOffset, count);
      for (const run of runsOf(entries, block)) {
        runs.add(run.first, run.count);
        found += run.count;
      }
    }
    const told = Number(header.nrChangedBlocks);
    // A block behind the index is counted, too, when it has changed.
    if (told !== found && !(nrBlocks > indexed && told === found + 1)) {
      throw new Error(
        `${path} is damaged: it tells of ${String(told)} changed blocks and names ${String(found)}`,
      );
    }
    if (nrBlocks > indexed) runs.add(indexed, nrBlocks - indexed);
    return ChangeMap.fromRuns(nrBlocks, runs);
  } finally {
    await file.close();
  }
}
