// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { Scratch, tool, withImage } from '../testing/filesystem-image.js';
import { crc32c } from './crc32c.js';
import { AllocationUnknownError } from './unknown.js';
import { insistOnCleanLog } from './xfs-log.js';
import { readXfsSuperblock } from './xfs-superblock.js';

const SECTOR = 512;
const HEADER_SIZE = 328;
const [START, COMMIT, CONTINUE, UNMOUNT] = [1, 2, 4, 0x20];
const [BUFFER, INODE] = [0x123c, 0x123b];

interface Operation {
  id: number;
  flags: number;
  data?: Buffer;
}

interface Position {
  cycle: number;
  sector: number;
}

/** Pieces of a transaction that changes something: a superblock is what is at sector 0. */
function transaction(id: number, type: number, block: number): Operation[] {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(0x5452_414e, 0);
  const item = Buffer.alloc(24);
  item.writeUInt16LE(type, 0);
  item.writeUInt16LE(2, 2);
  item.writeBigInt64LE(BigInt(block), 8);
  return [
    { id, flags: START },
    { id, flags: 0, data: header },
    { id, flags: 0, data: item },
    { id, flags: 0, data: Buffer.alloc(128, 9) },
    { id, flags: COMMIT },
  ];
}

const superblock = transaction(7, BUFFER, 0);
const unmount: Operation[] = [
  { id: 8, flags: UNMOUNT, data: Buffer.from('6e55000000000000', 'hex') },
];

describe('the log of an XFS', () => {
  let scratch: Scratch;
  let path = '';
  let sectors = 0;
  let uuid: Buffer = Buffer.alloc(0);
  let log = Buffer.alloc(0);
  let startBytes = 0;

  before(async () => {
    scratch = await Scratch.make();
    path = await scratch.file('image', 320 * 1024 * 1024);
    await tool(['mkfs.xfs', '-q', '-f', path]);
    await withImage(path, async (image) => {
      const fs = await readXfsSuperblock(image);
      assert.ok(fs.log);
      ({ uuid } = fs);
      startBytes = fs.log.start * fs.blockSize;
      sectors = (fs.log.blocks * fs.blockSize) / SECTOR;
    });
  });
  after(async () => {
    await scratch.remove();
  });

  /** A log in which everything before `head` was written in its cycle, and what is behind it in the one before. */
  function stamp({ cycle, sector: head }: Position): void {
    log = Buffer.alloc(sectors * SECTOR);
    for (let sector = 0; sector < sectors; sector += 1) {
      log.writeUInt32BE(sector < head ? cycle : cycle - 1, sector * SECTOR);
    }
  }

  /** Puts a record where it belongs, around the end of the log; as long as its operations are, or longer. Returns what follows it. */
  function put(
    { cycle, sector }: Position,
    tail: Position,
    operations: readonly Operation[],
    least = 1,
  ): Position {
    const bytes = Buffer.concat(
      operations.flatMap(({ id, flags, data = Buffer.alloc(0) }) => {
        const header = Buffer.alloc(12);
        header.writeUInt32BE(id, 0);
        header.writeUInt32BE(data.length, 4);
        header.writeUInt8(0x69, 8);
        header.writeUInt8(flags, 9);
        return [header, data];
      }),
    );
    const nrData = Math.max(least, Math.ceil(bytes.length / SECTOR));
    const data = Buffer.alloc(nrData * SECTOR);
    bytes.copy(data);
    const size = nrData > 64 ? 256 * 1024 : 32 * 1024;
    const nrHeaders = size / (64 * SECTOR);
    const headers = Buffer.alloc(nrHeaders * SECTOR);
    [0xfeed_babe, cycle, 2, data.length, cycle, sector, tail.cycle, tail.sector].forEach(
      (word, i) => {
        headers.writeUInt32BE(word, i * 4);
      },
    );
    headers.writeUInt32BE(operations.length, 40);
    headers.writeUInt32BE(1, 300);
    uuid.copy(headers, 304);
    headers.writeUInt32BE(size, 320);
    const cycleAt = (index: number): number => (sector + index >= sectors ? cycle + 1 : cycle);
    for (let i = 1; i < nrHeaders; i += 1) headers.writeUInt32BE(cycleAt(i), i * SECTOR);
    for (let i = 0; i < nrData; i += 1) {
      const words = i < 64 ? 44 : Math.floor(i / 64) * SECTOR + 4;
      data.copy(headers, words + (i % 64) * 4, i * SECTOR, i * SECTOR + 4);
      data.writeUInt32BE(cycleAt(nrHeaders + i), i * SECTOR);
    }
    const more: Buffer[] = [];
    for (let i = 1; i < Math.ceil(nrData / 64); i += 1) {
      more.push(headers.subarray(i * SECTOR, i * SECTOR + 260));
    }
    headers.writeUInt32LE(crc32c(headers.subarray(0, HEADER_SIZE), ...more, data), 32);
    const record = Buffer.concat([headers, data]);
    for (let i = 0; i * SECTOR < record.length; i += 1) {
      record.copy(log, ((sector + i) % sectors) * SECTOR, i * SECTOR, (i + 1) * SECTOR);
    }
    const next = sector + record.length / SECTOR;
    return next < sectors ? { cycle, sector: next } : { cycle: cycle + 1, sector: next - sectors };
  }

  async function write(): Promise<void> {
    const file = await open(path, 'r+');
    await file.write(log, 0, log.length, startBytes);
    await file.close();
  }

  function check(): Promise<void> {
    return withImage(path, async (image) => {
      await insistOnCleanLog(image, await readXfsSuperblock(image));
    });
  }

  /** What xfs_logprint makes of it: the log of these tests is one. */
  async function stateByLogprint(): Promise<string> {
    const text = await tool(['xfs_logprint', '-t', path]);
    return /log tail: \d+ head: \d+ state: <(\w+)>/.exec(text)?.[0] ?? text;
  }

  /** Records with these operations, the last of them with the tail at the second; behind others, in which anything may be. */
  async function logOf(
    first: Position,
    ...records: readonly { operations: readonly Operation[]; least?: number }[]
  ): Promise<Position> {
    // Where the records end is known only when they have been put somewhere.
    let head = first;
    for (const isMeasured of [false, true]) {
      stamp(isMeasured ? head : first);
      let at = put(first, first, transaction(1, INODE, 99));
      const tail = at;
      for (const { operations, least } of records) at = put(at, tail, operations, least);
      head = at.sector === 0 ? { cycle: at.cycle - 1, sector: sectors } : at;
    }
    await write();
    return head;
  }

  const freeze = [{ operations: superblock }, { operations: superblock }];
  const dirty = [
    { operations: superblock },
    { operations: transaction(9, INODE, 0) },
    { operations: superblock },
  ];

  // Two records of two sectors each follow the first, which has two, too.
  for (const [name, before] of [
    ['in the middle', 5000],
    ['up to its end', 6],
    ['around its end, between records', 4],
    ['around its end, within the last record', 5],
    ['around its end, within the first record', 3],
    ['from its start on', 2],
  ] as const) {
    it(`is clean with what a freeze leaves, ${name}`, async () => {
      const first = { cycle: 5, sector: sectors - before };
      const { sector: head } = await logOf(first, ...freeze);
      await check();
      const tail = (first.sector + 2) % sectors;
      assert.equal(
        await stateByLogprint(),
        `log tail: ${tail} head: ${head % sectors} state: <DIRTY>`,
      );
    });

    it(`is not clean with anything else, ${name}`, async () => {
      await logOf({ cycle: 5, sector: sectors - before }, ...dirty);
      await assert.rejects(check(), /its log has not been replayed/);
    });

    it(`is clean after an unmount, ${name}`, async () => {
      const first = { cycle: 5, sector: sectors - before };
      const { sector: head } = await logOf(
        first,
        { operations: transaction(9, INODE, 0) },
        { operations: unmount },
      );
      await check();
      assert.equal(
        await stateByLogprint(),
        `log tail: ${head % sectors} head: ${head % sectors} state: <CLEAN>`,
      );
    });
  }

  it('is read in records of every length', async () => {
    for (const least of [1, 63, 64, 65, 128, 200, 504]) {
      for (const before of [5000, 300, 2 + least]) {
        const first = { cycle: 3, sector: sectors - before };
        await logOf(first, { operations: superblock, least }, { operations: superblock, least });
        await check();
        await logOf(
          first,
          { operations: superblock, least },
          { operations: transaction(3, BUFFER, 8), least },
        );
        await assert.rejects(check(), /its log has not been replayed/);
      }
    }
  });

  it('may begin within a transaction that is no longer needed', async () => {
    const rest = transaction(4, INODE, 0).slice(3);
    await logOf({ cycle: 2, sector: 100 }, { operations: [...rest, ...superblock] });
    await check();
  });

  it('is not clean with a transaction that goes on in another record, or has no end', async () => {
    const [start, header, item, data, commit] = superblock as [
      Operation,
      Operation,
      Operation,
      Operation,
      Operation,
    ];
    for (const operations of [
      [start, header, item, { ...data, flags: CONTINUE }],
      [start, header, item, commit],
      [start, header, { ...item, data: Buffer.alloc(8) }, data, commit],
      [start, { ...header, data: Buffer.alloc(16) }, item, data, commit],
      [start, header, item, data, data, commit],
    ]) {
      await logOf({ cycle: 2, sector: 100 }, { operations });
      await assert.rejects(check(), AllocationUnknownError);
    }
  });

  it('is not clean when more would be replayed than a freeze leaves', async () => {
    const many = Array.from({ length: 8 }, () => ({ operations: superblock, least: 504 }));
    await logOf({ cycle: 2, sector: 100 }, ...many);
    await assert.rejects(check(), /its log has not been replayed/);
  });

  it('is damaged, wherever a bit of its last records is wrong', async () => {
    const first = { cycle: 4, sector: 1000 };
    const head = await logOf(first, ...freeze);
    for (let sector = first.sector + 2; sector < head.sector; sector += 1) {
      for (let byte = 0; byte < SECTOR; byte += 1) {
        // What is behind the header is none of it.
        if ((sector - first.sector) % 2 === 0 && byte >= HEADER_SIZE) continue;
        const at = sector * SECTOR + byte;
        log.writeUInt8(log.readUInt8(at) ^ (1 << (byte % 8)), at);
        const file = await open(path, 'r+');
        await file.write(log, sector * SECTOR, SECTOR, startBytes + sector * SECTOR);
        await assert.rejects(check(), AllocationUnknownError, `${sector} ${byte}`);
        log.writeUInt8(log.readUInt8(at) ^ (1 << (byte % 8)), at);
        await file.write(log, sector * SECTOR, SECTOR, startBytes + sector * SECTOR);
        await file.close();
      }
    }
    await check();
  });
});
