// SPDX-License-Identifier: Apache-2.0
// A checksum file, read and written as a stream: for a volume of 1 TiB it can have 68 MiB.
//
//   "ELIOSUM1" | records, their indices ascending
//   record: u32 index of the chunk (little-endian) | 32 bytes: the blocks that are held | 32 bytes: SHA-256
import { createHash, type Hash } from 'node:crypto';
import { open, truncate, type FileHandle } from 'node:fs/promises';
import { readFully } from '../backup/file-io.js';
import { CliError } from '../errors.js';
import { BlockSet, type ChunkSum } from './chunk-sums.js';

const MAGIC = Buffer.from('ELIOSUM1');
const PART_SIZE = 32;
const RECORD_SIZE = 4 + 2 * PART_SIZE;
/** Records that are read or written at once. */
const BATCH = 4096;

/** What a manifest says of a checksum file. */
export interface SumsSummary {
  chunks: number;
  sha256: string;
}

/** Hashes a file. */
async function hashFile(file: FileHandle): Promise<Hash> {
  const { size } = await file.stat();
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(BATCH * RECORD_SIZE);
  for (let at = 0; at < size; at += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, size - at));
    await readFully(file, part, at);
    hash.update(part);
  }
  return hash;
}

/** Leaves the first records of a checksum file, as many as there were when it had that summary. */
export async function cutSums(path: string, { chunks }: SumsSummary): Promise<void> {
  await truncate(path, MAGIC.length + chunks * RECORD_SIZE);
}

export class SumsWriter {
  private readonly buffer = Buffer.alloc(BATCH * RECORD_SIZE);
  private used = 0;

  private constructor(
    private readonly file: FileHandle,
    private readonly hash: Hash,
    private chunks: number,
  ) {}

  /** Goes on with a file; rejects with CliError when it is not the one of that summary. */
  static async continue(path: string, expected: SumsSummary): Promise<SumsWriter> {
    const file = await open(path, 'a+');
    const hash = await hashFile(file);
    if (hash.copy().digest('hex') === expected.sha256) {
      return new SumsWriter(file, hash, expected.chunks);
    }
    await file.close();
    throw new CliError(`${path} is damaged`);
  }

  static async create(path: string): Promise<SumsWriter> {
    const writer = new SumsWriter(await open(path, 'w', 0o600), createHash('sha256'), 0);
    await writer.append(MAGIC);
    return writer;
  }

  private async append(data: Buffer): Promise<void> {
    this.hash.update(data);
    let done = 0;
    while (done < data.length) done += (await this.file.write(data, done)).bytesWritten;
  }

  /** True: drain() is due. Kept apart because most records need no waiting. */
  add({ index, held, digest }: ChunkSum): boolean {
    this.buffer.writeUInt32LE(index, this.used);
    held.bits.copy(this.buffer, this.used + 4);
    digest.copy(this.buffer, this.used + 4 + PART_SIZE);
    this.used += RECORD_SIZE;
    this.chunks += 1;
    return this.used === this.buffer.length;
  }

  async drain(): Promise<void> {
    await this.append(this.buffer.subarray(0, this.used));
    this.used = 0;
  }

  /** Puts the records so far on disk. */
  async sync(): Promise<SumsSummary> {
    await this.drain();
    await this.file.sync();
    return { chunks: this.chunks, sha256: this.hash.copy().digest('hex') };
  }

  /** Puts the file on disk. */
  async finish(): Promise<SumsSummary> {
    const summary = await this.sync();
    await this.file.close();
    return summary;
  }

  /** After a failure. */
  async abandon(): Promise<void> {
    await this.file.close().catch(() => undefined);
  }
}

export class SumsReader {
  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly chunks: number,
  ) {}

  /** Rejects with a CliError when the file is not the one that the manifest means. */
  static async open(path: string, expected: SumsSummary): Promise<SumsReader> {
    const file = await open(path, 'r');
    try {
      const reader = new SumsReader(path, file, expected.chunks);
      await reader.checkFile(expected);
      return reader;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private async checkFile({ chunks, sha256 }: SumsSummary): Promise<void> {
    const { size } = await this.file.stat();
    const altered = new CliError(
      `${this.path} is altered: it is not the file of which its manifest has the checksum`,
    );
    if (size !== MAGIC.length + chunks * RECORD_SIZE) throw altered;
    if ((await hashFile(this.file)).digest('hex') !== sha256) throw altered;
  }

  /** The records in their order; they stay as they are. */
  async *records(): AsyncGenerator<ChunkSum> {
    for (let first = 0; first < this.chunks; first += BATCH) {
      const count = Math.min(BATCH, this.chunks - first);
      const batch = Buffer.alloc(count * RECORD_SIZE);
      await readFully(this.file, batch, MAGIC.length + first * RECORD_SIZE);
      for (let at = 0; at < batch.length; at += RECORD_SIZE) {
        const held = batch.subarray(at + 4, at + 4 + PART_SIZE);
        const digest = batch.subarray(at + 4 + PART_SIZE, at + RECORD_SIZE);
        yield { index: batch.readUInt32LE(at), held: new BlockSet(held), digest };
      }
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
