// SPDX-License-Identifier: Apache-2.0
// Has the log of an XFS anything to replay? After a clean unmount it ends with a record that says so. A freeze writes everything back,
// too, and then leaves records with the superblock in the log, so that a mount after a crash looks at deleted files that were open.
// Those change no allocation; anything else in the log may.
import { crc32c } from './crc32c.js';
import type { ImageReader } from './image-reader.js';
import { AllocationUnknownError, insist } from './unknown.js';
import type { Xfs } from './xfs-superblock.js';

/** The log counts in these, whatever the sectors of the device are. */
const SECTOR = 512;
const RECORD_MAGIC = 0xfeed_babe;
const LITTLE_ENDIAN = 1;
/** Of the data of a record one word in each sector is kept in the record's headers, each of which has room for so many. */
const WORDS_PER_HEADER = 64;
const FIRST_WORDS_OFFSET = 44;
const MORE_WORDS_OFFSET = 4;
const DATA_PER_HEADER = WORDS_PER_HEADER * SECTOR;
const LARGEST_RECORD = 256 * 1024;
/** More than the two records that a freeze leaves can be. */
const MOST_TO_REPLAY = 4 * LARGEST_RECORD;
const CHECKSUM_OFFSET = 32;
const OPERATIONS_OFFSET = 40;
/** What the checksum of a record covers of its header: the size of a structure, which is another one on 32 bits. */
const HEADER_SIZES = [328, 324] as const;
const EXTENDED_HEADER_SIZE = 260;

const OPERATION_SIZE = 12;
const START = 0x1;
const COMMIT = 0x2;
const UNMOUNT = 0x20;
const TRANSACTION_MAGIC = 0x5452_414e;
const BUFFER_ITEM = 0x123c;
const UNMOUNT_MAGIC = 0x556e;

interface Position {
  cycle: number;
  /** Sector of the log. */
  sector: number;
}

interface LogRecord {
  sectors: number;
  tail: Position;
  operations: number;
  /** With the words put back that were kept in the headers. */
  data: Buffer;
}

function damaged(): AllocationUnknownError {
  return new AllocationUnknownError('its log is damaged');
}

function notClean(): AllocationUnknownError {
  return new AllocationUnknownError('its log has not been replayed');
}

/** The log as a ring of sectors. */
class Log {
  readonly sectors: number;
  private readonly start: number;

  constructor(
    private readonly image: ImageReader,
    private readonly fs: Xfs,
    { start, blocks }: NonNullable<Xfs['log']>,
  ) {
    this.start = start * fs.blockSize;
    this.sectors = (blocks * fs.blockSize) / SECTOR;
  }

  /** Sectors from `first` on, around the end of the log. */
  async read(first: number, count: number): Promise<Buffer> {
    insist(first < this.sectors && count <= this.sectors, 'its log is damaged');
    const { start } = this;
    const here = Math.min(count, this.sectors - first);
    const parts = [await this.image.read(start + first * SECTOR, here * SECTOR)];
    if (here < count) parts.push(await this.image.read(start, (count - here) * SECTOR));
    return Buffer.concat(parts);
  }

  /** The round in which a sector was written. */
  async cycleOf(sector: number): Promise<number> {
    const bytes = await this.read(sector, 1);
    const word = bytes.readUInt32BE(0);
    return word === RECORD_MAGIC ? bytes.readUInt32BE(4) : word;
  }

  /** The sector behind the one that was written last. */
  async head(): Promise<Position> {
    const newest = await this.cycleOf(0);
    const oldest = await this.cycleOf(this.sectors - 1);
    insist(newest !== 0, 'its log is empty');
    if (newest === oldest) return { cycle: newest, sector: this.sectors };
    insist(oldest === newest - 1 || oldest === 0, 'its log is damaged');
    let low = 0;
    let high = this.sectors - 1;
    while (low + 1 < high) {
      const middle = Math.floor((low + high) / 2);
      if ((await this.cycleOf(middle)) === newest) low = middle;
      else high = middle;
    }
    return { cycle: newest, sector: high };
  }

  /** The record that ends at the head. */
  async last(head: Position): Promise<{ at: Position; record: LogRecord }> {
    const most = Math.min(this.sectors, LARGEST_RECORD / SECTOR + 2 * WORDS_PER_HEADER);
    const from = head.sector - most;
    const bytes = await this.read(from < 0 ? from + this.sectors : from, most);
    for (let i = most - 1; i >= 0; i -= 1) {
      if (bytes.readUInt32BE(i * SECTOR) !== RECORD_MAGIC) continue;
      const sector = from + i;
      const at =
        sector < 0
          ? { cycle: head.cycle - 1, sector: sector + this.sectors }
          : { cycle: head.cycle, sector };
      const record = await this.record(at);
      insist(record.sectors === most - i, 'its log is damaged');
      return { at, record };
    }
    throw damaged();
  }

  async record({ cycle, sector }: Position): Promise<LogRecord> {
    const header = await this.read(sector, 1);
    const u32 = (offset: number): number => header.readUInt32BE(offset);
    const [version, length, size] = [u32(8), u32(12), u32(320)];
    insist(
      u32(0) === RECORD_MAGIC &&
        u32(4) === cycle &&
        (version === 1 || version === 2) &&
        u32(300) === LITTLE_ENDIAN &&
        header.subarray(304, 320).equals(this.fs.uuid) &&
        u32(16) === cycle &&
        u32(20) === sector,
      'its log is damaged',
    );
    insist(
      length > 0 && length % SECTOR === 0 && length <= LARGEST_RECORD && size <= LARGEST_RECORD,
      'its log is damaged',
    );
    const nrHeaders = version === 2 ? Math.max(1, Math.ceil(size / DATA_PER_HEADER)) : 1;
    // mkfs makes one that is longer than its header is for: padding behind its only operation.
    insist(
      length <= nrHeaders * DATA_PER_HEADER || u32(OPERATIONS_OFFSET) === 1,
      'its log is damaged',
    );
    const sectors = nrHeaders + length / SECTOR;
    const bytes = await this.read(sector, sectors);
    this.checkChecksum(bytes, nrHeaders, length);
    return {
      sectors,
      tail: { cycle: u32(24), sector: u32(28) },
      operations: u32(OPERATIONS_OFFSET),
      data: this.unpack({ cycle, sector }, bytes, nrHeaders),
    };
  }

  /** Old kernels leave the checksum out, and so does mkfs of the one record that it writes. */
  private checkChecksum(bytes: Buffer, nrHeaders: number, length: number): void {
    const stored = bytes.readUInt32LE(CHECKSUM_OFFSET);
    const isOptional = !this.fs.hasChecksums || bytes.readUInt32BE(OPERATIONS_OFFSET) === 1;
    if (stored === 0 && isOptional) return;
    const more: Buffer[] = [];
    for (let i = 1; i < Math.ceil(length / DATA_PER_HEADER); i += 1) {
      more.push(bytes.subarray(i * SECTOR, i * SECTOR + EXTENDED_HEADER_SIZE));
    }
    const found = HEADER_SIZES.map((size) =>
      crc32c(
        bytes.subarray(0, CHECKSUM_OFFSET),
        Buffer.alloc(4),
        bytes.subarray(CHECKSUM_OFFSET + 4, size),
        ...more,
        bytes.subarray(nrHeaders * SECTOR),
      ),
    );
    insist(found.includes(stored), 'the checksum of its log is wrong');
  }

  private unpack({ cycle, sector }: Position, bytes: Buffer, nrHeaders: number): Buffer {
    const data = Buffer.from(bytes.subarray(nrHeaders * SECTOR));
    for (let i = 0; i * SECTOR < data.length; i += 1) {
      const isWrapped = sector + nrHeaders + i >= this.sectors;
      insist(
        data.readUInt32BE(i * SECTOR) === cycle + (isWrapped ? 1 : 0),
        'a record of its log is not whole',
      );
      const header = Math.floor(i / WORDS_PER_HEADER);
      if (header >= nrHeaders) continue;
      const words = header === 0 ? FIRST_WORDS_OFFSET : header * SECTOR + MORE_WORDS_OFFSET;
      const word = words + (i % WORDS_PER_HEADER) * 4;
      bytes.copy(data, i * SECTOR, word, word + 4);
    }
    return data;
  }
}

interface Operation {
  transaction: number;
  flags: number;
  data: Buffer;
}

function* operationsOf({
  operations,
  data,
}: Pick<LogRecord, 'operations' | 'data'>): Generator<Operation> {
  let at = 0;
  for (let i = 0; i < operations; i += 1) {
    if (at + OPERATION_SIZE > data.length) throw damaged();
    const length = data.readUInt32BE(at + 4);
    const start = at + OPERATION_SIZE;
    at = start + length;
    if (at > data.length) throw damaged();
    yield {
      transaction: data.readUInt32BE(start - OPERATION_SIZE),
      flags: data.readUInt8(start - 3),
      data: data.subarray(start, at),
    };
  }
}

/** Is it the one that a clean unmount leaves? */
function isUnmount(record: LogRecord): boolean {
  if (record.operations !== 1) return false;
  const [operation] = operationsOf(record);
  return (
    operation !== undefined &&
    (operation.flags & UNMOUNT) !== 0 &&
    operation.data.length >= 2 &&
    operation.data.readUInt16LE(0) === UNMOUNT_MAGIC
  );
}

/** A transaction of which a part has been seen: what its next piece has to be. */
interface Transaction {
  isBegun: boolean;
  /** Pieces of the item that is being told. */
  piecesLeft: number;
}

/** Goes through what a mount would replay, and throws unless it is the superblock and nothing else. */
class Replay {
  private readonly transactions = new Map<number, Transaction>();

  take({ transaction: id, flags, data }: Operation): void {
    if (flags === UNMOUNT) return;
    if (flags === START) {
      if (data.length > 0) throw notClean();
      this.transactions.set(id, { isBegun: false, piecesLeft: 0 });
      return;
    }
    const transaction = this.transactions.get(id);
    // The end of one that began before what would be replayed: so does not the kernel, either.
    if (!transaction) return;
    if (flags === COMMIT) {
      if (data.length > 0 || transaction.piecesLeft > 0) throw notClean();
      this.transactions.delete(id);
      return;
    }
    // A piece that goes on in another record: those of the superblock are too small for that.
    if (flags !== 0) throw notClean();
    this.takePiece(transaction, data);
  }

  private takePiece(transaction: Transaction, data: Buffer): void {
    if (!transaction.isBegun) {
      if (data.length < 16 || data.readUInt32LE(0) !== TRANSACTION_MAGIC) throw damaged();
      transaction.isBegun = true;
    } else if (transaction.piecesLeft > 0) {
      transaction.piecesLeft -= 1;
    } else {
      const isSuperblock =
        data.length >= 24 &&
        data.readUInt16LE(0) === BUFFER_ITEM &&
        data.readUInt16LE(2) >= 1 &&
        data.readBigInt64LE(8) === 0n;
      if (!isSuperblock) throw notClean();
      transaction.piecesLeft = data.readUInt16LE(2) - 1;
    }
  }
}

/**
 * Rejects with AllocationUnknownError unless all that the log holds is on the device already. A log that is on another device cannot be
 * looked at: there the freeze alone is what one can trust in.
 */
export async function insistOnCleanLog(image: ImageReader, fs: Xfs): Promise<void> {
  if (!fs.log) return;
  const log = new Log(image, fs, fs.log);
  const head = await log.head();
  const { at, record } = await log.last(head);
  if (isUnmount(record)) return;
  const place = ({ cycle, sector }: Position): number => cycle * log.sectors + sector;
  const end = place(head);
  let next = place(record.tail);
  insist(record.tail.sector < log.sectors && next <= place(at), 'its log is damaged');
  if (end - next > MOST_TO_REPLAY / SECTOR) throw notClean();
  const replay = new Replay();
  while (next < end) {
    const position = { cycle: Math.floor(next / log.sectors), sector: next % log.sectors };
    const { sectors, ...rest } = await log.record(position);
    for (const operation of operationsOf(rest)) replay.take(operation);
    next += sectors;
  }
  insist(next === end, 'its log is damaged');
}
