// SPDX-License-Identifier: Apache-2.0
// The journal of an incremental backup: what is to be written to the backup, complete and checksummed before the first byte
// of the backup is touched, so that it can be applied again after a crash.
//
//   "ELIOJRN1" | u32 length of JSON | JSON (journalSchema) | records... | commit record
//   record: u32 kind | u32 CRC-32 of the payload | u64 offset | u64 length | payload (kind 1, data, only); 2: zeros; 4: skipped
//   commit: kind 3, length 32, payload: SHA-256 of all that precedes the record
// All numbers are little-endian.
import { createHash, type Hash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { isErrnoException } from '../../../agent/src/errors.js';
import { CliError } from '../errors.js';
import type { Blocks } from './blocks.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { readFully } from './file-io.js';
import { cookieSchema } from './manifest.js';
import { Coverage } from './skipped.js';
import { atStep } from './steps.js';

const MAGIC = Buffer.from('ELIOJRN1');
const RECORD_SIZE = 24;
const COMMIT_SIZE = RECORD_SIZE + 32;
const MAX_HEADER_SIZE = 64 * 1024;
const KIND = { data: 1, hole: 2, commit: 3, skipped: 4 } as const;

const journalSchema = z.strictObject({
  /** sha256_tree of the backup that it changes. */
  base_sha256_tree: z.string(),
  /** The snapshot that the backup is of when it has been applied. */
  cookie: cookieSchema,
  host: z.string(),
  machine_id: z.string().default(''),
  block_device: z.string(),
  stable_id: z.string().default(''),
  created: z.string(),
});

export type JournalHeader = z.infer<typeof journalSchema>;

function recordHeader(kind: number, checksum: number, offset: number, length: number): Buffer {
  const header = Buffer.alloc(RECORD_SIZE);
  header.writeUInt32LE(kind, 0);
  header.writeUInt32LE(checksum, 4);
  header.writeBigUInt64LE(BigInt(offset), 8);
  header.writeBigUInt64LE(BigInt(length), 16);
  return header;
}

export class JournalWriter {
  private constructor(
    private readonly file: FileHandle,
    private readonly hash: Hash,
    private bytes: number,
  ) {}

  static async create(path: string, header: JournalHeader): Promise<JournalWriter> {
    const writer = new JournalWriter(await open(path, 'wx', 0o600), createHash('sha256'), 0);
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    await writer.append(MAGIC, length, json);
    return writer;
  }

  /** Goes on with one whose content, that was hashed, ends with whole records. */
  static async continue(path: string, { bytes, hash }: JournalPart): Promise<JournalWriter> {
    return new JournalWriter(await open(path, 'r+'), hash.copy(), bytes);
  }

  private async append(...parts: Buffer[]): Promise<void> {
    for (const part of parts) this.hash.update(part);
    const { bytesWritten } = await this.file.writev(parts, this.bytes);
    this.bytes += bytesWritten;
    if (bytesWritten !== parts.reduce((sum, part) => sum + part.length, 0)) {
      throw new CliError('the journal was written only in part: is the disk full?');
    }
  }

  /** Puts the records so far on disk. */
  async sync(): Promise<{ bytes: number; sha256: string }> {
    await this.file.sync();
    return { bytes: this.bytes, sha256: this.hash.copy().digest('hex') };
  }

  async write(blocks: Blocks): Promise<void> {
    if (blocks.kind !== 'data') {
      await this.append(recordHeader(KIND[blocks.kind], 0, blocks.offset, blocks.length));
      return;
    }
    const { data, offset } = blocks;
    await this.append(recordHeader(KIND.data, crc32(data), offset, data.length), data);
  }

  /** Makes the journal complete, on disk. */
  async commit(): Promise<void> {
    const digest = this.hash.copy().digest();
    await this.append(recordHeader(KIND.commit, crc32(digest), 0, digest.length), digest);
    await this.file.sync();
    await this.close();
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** The first bytes of a journal. */
export interface JournalPart {
  bytes: number;
  hash: Hash;
}

/** Rejects when the file has not so many bytes. */
async function hashPart(file: FileHandle, bytes: number): Promise<Hash> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(CHUNK_SIZE);
  for (let at = 0; at < bytes; at += CHUNK_SIZE) {
    const part = buffer.subarray(0, Math.min(CHUNK_SIZE, bytes - at));
    await readFully(file, part, at);
    hash.update(part);
  }
  return hash;
}

/** The header of a journal; undefined: it is none. */
async function readHeader(
  file: FileHandle,
  end: number,
): Promise<{ header: JournalHeader; start: number } | undefined> {
  const prefix = Buffer.alloc(MAGIC.length + 4);
  if (end < prefix.length) return undefined;
  await readFully(file, prefix, 0);
  const length = prefix.readUInt32LE(MAGIC.length);
  const start = prefix.length + length;
  const sound = prefix.subarray(0, MAGIC.length).equals(MAGIC) && length <= MAX_HEADER_SIZE;
  if (!sound || start > end) return undefined;
  const json = Buffer.alloc(length);
  await readFully(file, json, prefix.length);
  return { header: journalSchema.parse(JSON.parse(json.toString())), start };
}

/** What the header of a record tells. */
interface RecordHeader {
  kind: Blocks['kind'];
  checksum: number;
  offset: number;
  length: number;
  /** Where the payload is in the journal. */
  at: number;
}

const KIND_NAMES: Readonly<Record<number, Blocks['kind']>> = {
  [KIND.data]: 'data',
  [KIND.hole]: 'hole',
  [KIND.skipped]: 'skipped',
};

/** The records from one byte of a journal to another, without reading the data. */
async function* recordHeaders(
  file: FileHandle,
  start: number,
  end: number,
): AsyncGenerator<RecordHeader> {
  const header = Buffer.alloc(RECORD_SIZE);
  for (let at = start; at < end;) {
    await readFully(file, header, at);
    at += RECORD_SIZE;
    const kind = KIND_NAMES[header.readUInt32LE(0)];
    if (!kind) throw new CliError('the journal is damaged');
    const offset = Number(header.readBigUInt64LE(8));
    const length = Number(header.readBigUInt64LE(16));
    yield { kind, checksum: header.readUInt32LE(4), offset, length, at };
    if (kind === 'data') at += length;
  }
}

/**
 * The first bytes of a journal that is not complete, and what they bring of a volume of that size; the rest is cut off. Rejects with
 * CliError when they are not these.
 */
export async function cutJournal(
  path: string,
  sizeBytes: number,
  { bytes, sha256 }: { bytes: number; sha256: string },
): Promise<{ header: JournalHeader; part: JournalPart; coverage: Coverage }> {
  const file = await open(path, 'r+');
  try {
    const hash = await hashPart(file, bytes);
    if (hash.copy().digest('hex') !== sha256) throw new CliError(`${path} is damaged`);
    const found = await readHeader(file, bytes);
    if (!found) throw new CliError(`${path} is no journal`);
    const coverage = new Coverage(sizeBytes);
    for await (const { kind, offset, length } of recordHeaders(file, found.start, bytes)) {
      coverage.add(kind, offset, length);
    }
    atStep('unfinished-proven');
    await file.truncate(bytes);
    atStep('unfinished-cut');
    return { header: found.header, part: { bytes, hash }, coverage };
  } finally {
    await file.close();
  }
}

/** A complete journal. */
export class Journal {
  private constructor(
    private readonly file: FileHandle,
    readonly header: JournalHeader,
    private readonly start: number,
    private readonly end: number,
  ) {}

  /** Undefined when there is none, or one that is not complete. */
  static async open(path: string): Promise<Journal | undefined> {
    let file: FileHandle;
    try {
      file = await open(path, 'r');
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT') return undefined;
      throw error;
    }
    const journal = await Journal.read(file);
    if (!journal) await file.close();
    return journal;
  }

  private static async read(file: FileHandle): Promise<Journal | undefined> {
    const { size } = await file.stat();
    const end = size - COMMIT_SIZE;
    if (end < 0 || !(await Journal.isCommitted(file, end))) return undefined;
    const found = await readHeader(file, end);
    return found && new Journal(file, found.header, found.start, end);
  }

  private static async isCommitted(file: FileHandle, end: number): Promise<boolean> {
    const commit = Buffer.alloc(COMMIT_SIZE);
    await readFully(file, commit, end);
    if (commit.readUInt32LE(0) !== KIND.commit) return false;
    return (await hashPart(file, end)).digest().equals(commit.subarray(RECORD_SIZE));
  }

  /** Bytes of all records, for those who count how far they are. */
  get recordBytes(): number {
    return this.end - this.start;
  }

  async *records(): AsyncGenerator<Blocks> {
    for await (const record of recordHeaders(this.file, this.start, this.end)) {
      const { kind, checksum, offset, length, at } = record;
      if (kind !== 'data') {
        yield { kind, offset, length };
        continue;
      }
      const data = Buffer.alloc(length);
      await readFully(this.file, data, at);
      if (crc32(data) !== checksum) throw new CliError('the journal is damaged');
      yield { kind, offset, data };
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
