// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from 'node:fs/promises';
import { CliError } from '../errors.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import type { Blocks } from './blocks.js';

const zeros = Buffer.alloc(CHUNK_SIZE);

/** Fills the buffer from a position; throws when the file ends before. */
export async function readFully(file: FileHandle, buffer: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) throw new CliError(`the file ends at byte ${String(position + done)}`);
    done += bytesRead;
  }
}

async function writeFully(file: FileHandle, data: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < data.length) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}

/** Writes data, or the zeros of a hole; what is skipped stays what it is. */
export async function writeBlocks(file: FileHandle, blocks: Blocks): Promise<void> {
  if (blocks.kind === 'data') {
    await writeFully(file, blocks.data, blocks.offset);
    return;
  }
  if (blocks.kind === 'skipped') return;
  for (let done = 0; done < blocks.length; done += CHUNK_SIZE) {
    const n = Math.min(CHUNK_SIZE, blocks.length - done);
    await writeFully(file, zeros.subarray(0, n), blocks.offset + done);
  }
}
