// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { COW_CLEAN, COW_HEADER, COW_INDEX_OFFSET, COW_MAGIC } from '../driver/layout.js';

/** What a COW file made for a test says. */
export interface CowFileContent {
  uuid: string;
  seqId: bigint;
  clean?: boolean;
  /** Entries of the index, which has whole sections. */
  nrEntries: number;
  changed: readonly number[];
}

/** Writes header and index of a COW file, as the driver leaves it after a transition. */
export async function writeCowFile(path: string, content: CowFileContent): Promise<void> {
  const buffer = Buffer.alloc(COW_INDEX_OFFSET + content.nrEntries * 8);
  buffer.writeUInt32LE(COW_MAGIC, COW_HEADER.magic);
  buffer.writeUInt32LE((content.clean ?? true) ? COW_CLEAN | 2 : 2, COW_HEADER.flags);
  buffer.writeBigUInt64LE(content.seqId, COW_HEADER.seqid);
  buffer.write(content.uuid, COW_HEADER.uuid, 'hex');
  buffer.writeBigUInt64LE(1n, COW_HEADER.version);
  buffer.writeBigUInt64LE(BigInt(content.changed.length), COW_HEADER.nr_changed_blocks);
  for (const block of content.changed) buffer.writeBigUInt64LE(1n, COW_INDEX_OFFSET + block * 8);
  await writeFile(path, buffer);
}
