// SPDX-License-Identifier: Apache-2.0
// The files of a backup, broken at every step by the end of the process that writes them, and opened again.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import type { Blocks } from './blocks.js';
import { CliError, EXIT } from '../errors.js';
import { ORIGIN } from '../sets/testing/volume.js';
import { Destination } from './destination.js';
import type { Transfer } from './progress-record.js';
import { FULL_STEPS, INCREMENT_STEPS } from './steps.js';
import { BrokenTransferError } from './stream.js';
import type { OriginDetails } from './target.js';

const sizeBytes = 3 * CHUNK_SIZE + 4096;
const writerProgram = join(import.meta.dirname, 'testing', 'write-backup.js');
const never = new AbortController().signal;

/** Runs the writer in a process of its own; `step` ends it there as a power cut would. */
function write(file: string, kind: 'full' | 'increment', fill: number, step = ''): void {
  const argv = [writerProgram, file, kind, String(fill), String(sizeBytes)];
  const env = { ...process.env, ELIO_TEST_STOP_AT: step };
  const { signal, status, stderr } = spawnSync(process.execPath, argv, { env, encoding: 'utf8' });
  if (step === '') assert.equal(status, 0, stderr);
  else assert.equal(signal, 'SIGKILL', `${step}: ${String(status)} ${stderr}`);
}

/** What the writer makes of a file: `fill` everywhere but in a hole, then `fill` in the changed part only. */
function content(full: number, increment?: number): string {
  const data = Buffer.alloc(sizeBytes, full);
  data.fill(0, CHUNK_SIZE, 2 * CHUNK_SIZE);
  if (increment !== undefined) {
    data.fill(increment, 4096, 8192);
    data.fill(increment, CHUNK_SIZE - 4096, CHUNK_SIZE);
    data.fill(0, 2 * CHUNK_SIZE + 4096, 2 * CHUNK_SIZE + 16384);
    data.fill(increment, 3 * CHUNK_SIZE, sizeBytes);
  }
  return createHash('sha256').update(data).digest('hex');
}

async function hashOf(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}

describe('destination of a backup', () => {
  let directory = '';
  let file = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-destination-'));
    file = join(directory, 'x.img');
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  async function filesLeft(): Promise<string[]> {
    return (await readdir(directory)).sort();
  }

  /** Opens the backup, which finishes or undoes what was broken, and checks it against its manifest. */
  async function openAndCheck(): Promise<number | undefined> {
    const destination = await Destination.open(file, 'read');
    try {
      if (destination.manifest) await destination.content().check(never);
      return destination.manifest?.cookie.seq_id;
    } finally {
      await destination.close();
    }
  }

  it('holds a full, with holes where there were only zeros, and a manifest that proves it', async () => {
    write(file, 'full', 1);
    assert.equal(await openAndCheck(), 1);
    assert.equal(await hashOf(file), content(1));
    assert.ok((await stat(file)).blocks * 512 <= sizeBytes - CHUNK_SIZE);
    assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
  });

  it('is brought up to date by an increment', async () => {
    write(file, 'full', 1);
    write(file, 'increment', 2);
    assert.equal(await openAndCheck(), 2);
    assert.equal(await hashOf(file), content(1, 2));
    assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
  });

  for (const step of INCREMENT_STEPS.slice(2, 6)) {
    it(`finishes an increment that ended at "${step}"`, async () => {
      write(file, 'full', 1);
      write(file, 'increment', 2, step);
      assert.equal(await openAndCheck(), 2);
      assert.equal(await hashOf(file), content(1, 2));
      assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
    });
  }

  it('throws away a journal that is not complete, wherever it ends', async () => {
    write(file, 'full', 1);
    write(file, 'increment', 2, 'journal-complete');
    const journal = await readFile(`${file}.journal`);
    for (const length of [0, 1, 11, 12, 100, journal.length - 57, journal.length - 1]) {
      await writeFile(`${file}.journal`, journal.subarray(0, length));
      assert.equal(await openAndCheck(), 1, String(length));
      assert.equal(await hashOf(file), content(1));
      assert.ok(!existsSync(`${file}.journal`));
    }
    const damaged = Buffer.from(journal);
    damaged.writeUInt8(damaged.readUInt8(5000) ^ 1, 5000);
    await writeFile(`${file}.journal`, damaged);
    assert.equal(await openAndCheck(), 1);
    assert.equal(await hashOf(file), content(1));
  });

  it('does not apply a journal of another backup', async () => {
    write(file, 'full', 1);
    write(file, 'increment', 2, 'journal-complete');
    const journal = await readFile(`${file}.journal`);
    await rm(`${file}.journal`);
    write(file, 'full', 3);
    await writeFile(`${file}.journal`, journal);
    assert.equal(await openAndCheck(), 1);
    assert.equal(await hashOf(file), content(3));
  });

  describe('an increment', () => {
    const cookie = { uuid: 'a'.repeat(32), seq_id: 2, nonce: 'b'.repeat(32) };
    const base = { ...cookie, seq_id: 1 };
    const data = Buffer.alloc(4096, 2);
    /** In two places of the first MiB, and all of the third and of the last one, which is short. */
    const pieces: Blocks[] = [
      { kind: 'data', offset: 4096, data },
      { kind: 'hole', offset: 16384, length: 4096 },
      { kind: 'skipped', offset: CHUNK_SIZE + 4096, length: 4096 },
      { kind: 'data', offset: 2 * CHUNK_SIZE, data },
      { kind: 'hole', offset: 2 * CHUNK_SIZE + 4096, length: CHUNK_SIZE - 4096 },
      { kind: 'data', offset: 3 * CHUNK_SIZE, data },
    ];

    async function* stream(all: readonly Blocks[], error?: Error): AsyncGenerator<Blocks> {
      for (const piece of all) yield await Promise.resolve(piece);
      if (error) throw error;
    }

    async function damage(offset: number): Promise<void> {
      const content = await readFile(file);
      content.writeUInt8(content.readUInt8(offset) ^ 1, offset);
      await writeFile(file, content);
    }

    async function inDestination(task: (to: Destination) => Promise<unknown>): Promise<void> {
      const destination = await Destination.open(file, 'write');
      try {
        await task(destination);
      } finally {
        await destination.close();
      }
    }

    function increment(): Promise<void> {
      return inDestination((to) => to.writeIncrement(stream(pieces), ORIGIN, cookie));
    }

    /** For damage at a byte, with nothing changed. */
    async function assertRefused(byte: number, run: () => Promise<void>): Promise<void> {
      const before = await Promise.all([hashOf(file), readFile(`${file}.manifest`, 'utf8')]);
      await assert.rejects(run(), new RegExp(`x.img is damaged at byte ${String(byte)}: .*--full`));
      const after = await Promise.all([hashOf(file), readFile(`${file}.manifest`, 'utf8')]);
      assert.deepEqual(after, before);
      assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
    }

    it('is refused when a MiB of which it leaves a part is damaged', async () => {
      write(file, 'full', 1);
      await damage(CHUNK_SIZE - 1);
      await assertRefused(0, increment);
    });

    it('is refused for that also when it goes on', async () => {
      const large = 300 * CHUNK_SIZE;
      const half = 260 * CHUNK_SIZE;
      const whole: Blocks = { kind: 'hole', offset: 0, length: large };
      await inDestination((to) => to.writeFull(stream([whole]), large, ORIGIN, base));
      const choices = { base, full: false, all: false };
      const transfer: Transfer = { cookie, size_bytes: large, type: 'incremental', ...choices };
      const begun: Blocks[] = [
        { kind: 'data', offset: CHUNK_SIZE, data },
        { kind: 'skipped', offset: CHUNK_SIZE + 4096, length: half - CHUNK_SIZE - 4096 },
      ];
      await inDestination(async (to) => {
        const broken = stream(begun, new BrokenTransferError('gone'));
        await assert.rejects(to.writeIncrement(broken, ORIGIN, cookie, transfer), /gone/);
        assert.equal(to.unfinished?.offset_bytes, half);
      });
      await damage(CHUNK_SIZE + 8192);
      const goOn = (): Promise<void> =>
        inDestination(async (to) => {
          await to.takeUp(never);
          await to.writeIncrement(stream([]), ORIGIN, cookie, transfer);
        });
      await assertRefused(CHUNK_SIZE, goOn);
    });

    it('overwrites damage, and leaves it where it touches nothing', async () => {
      write(file, 'full', 1);
      await damage(2 * CHUNK_SIZE + 5000);
      await damage(3 * CHUNK_SIZE + 5);
      await increment();
      assert.equal(await openAndCheck(), 2);
      await damage(CHUNK_SIZE + 5000);
      await increment();
      await assert.rejects(openAndCheck(), /1 MiB differ, at byte 1048576/);
    });
  });

  it('keeps a journal while nobody can tell whether it is of this backup', async () => {
    const manifest = `${file}.manifest`;
    const away = join(directory, 'away');
    for (const use of ['write', 'read'] as const) {
      write(file, 'full', 1);
      write(file, 'increment', 2, 'half-applied');
      await rename(manifest, away);
      await mkdir(manifest);
      await assert.rejects(Destination.open(file, use), /manifest cannot be read .*x.img.journal/);
      assert.deepEqual(await filesLeft(), ['away', 'x.img', 'x.img.journal', 'x.img.manifest']);
      await rmdir(manifest);
      await rename(away, manifest);
      assert.equal(await openAndCheck(), 2);
      assert.equal(await hashOf(file), content(1, 2));
    }
  });

  it('throws away a journal when there is no manifest', async () => {
    write(file, 'full', 1);
    write(file, 'increment', 2, 'journal-complete');
    await rm(`${file}.manifest`);
    assert.equal(await openAndCheck(), undefined);
    assert.deepEqual(await filesLeft(), ['x.img']);
  });

  it('stays what it was when a full that replaces it ends early', async () => {
    write(file, 'full', 1);
    write(file, 'full', 3, 'half-streamed');
    assert.equal(await openAndCheck(), 1);
    assert.equal(await hashOf(file), content(1));
    assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
  });

  it('keeps what there is of a transfer whose agent is gone, and goes on with it', async () => {
    const large = 600 * CHUNK_SIZE;
    const half = 300 * CHUNK_SIZE;
    const cookie = { uuid: 'a'.repeat(32), seq_id: 1, nonce: 'b'.repeat(32) };
    const size = { size_bytes: large };
    const choices = { base: null, full: false, all: false };
    const transfer: Transfer = { cookie, ...size, type: 'full', ...choices };
    const data = Buffer.alloc(4096, 7);
    async function* begun(error: Error): AsyncGenerator<Blocks> {
      yield await Promise.resolve({ kind: 'data', offset: 0, data });
      yield { kind: 'hole', offset: 4096, length: half - 4096 };
      throw error;
    }
    async function* rest(): AsyncGenerator<Blocks> {
      yield await Promise.resolve({ kind: 'hole', offset: half, length: half - 4096 });
      yield { kind: 'data', offset: large - 4096, data };
    }
    const write = async (error: Error): Promise<Destination> => {
      const destination = await Destination.open(file, 'write');
      const written = destination.writeFull(begun(error), large, ORIGIN, cookie, transfer);
      await assert.rejects(written, error);
      await destination.close();
      return destination;
    };
    assert.equal((await write(new CliError('interrupted'))).unfinished, undefined);
    assert.deepEqual(await filesLeft(), []);
    const kept = await write(new BrokenTransferError('gone'));
    assert.equal(kept.unfinished?.offset_bytes, half);
    const destination = await Destination.open(file, 'write');
    assert.deepEqual(destination.unfinished, kept.unfinished);
    await destination.takeUp(never);
    await destination.writeFull(rest(), large, ORIGIN, cookie, transfer);
    await destination.content().check(never);
    await destination.close();
    assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
    const content = await readFile(file);
    assert.ok(content.subarray(0, 4096).equals(data) && content.subarray(-4096).equals(data));
    assert.equal(content.length, large);
  });

  for (const step of FULL_STEPS.slice(2, 4)) {
    it(`is the new full when that ended at "${step}"`, async () => {
      write(file, 'full', 1);
      write(file, 'full', 3, step);
      assert.equal(await openAndCheck(), 1);
      assert.equal(await hashOf(file), content(3));
      assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
    });
  }

  it('says why there is nothing to build on', async () => {
    const why = async (): Promise<string> => {
      const destination = await Destination.open(file, 'write');
      await destination.close();
      assert.equal(destination.manifest, undefined);
      return destination.whyNone;
    };
    assert.match(await why(), /first backup/);
    write(file, 'full', 1);
    await truncate(file, 4096);
    assert.match(await why(), /size/);
    await rm(file);
    assert.match(await why(), /missing/);
    await writeFile(`${file}.manifest`, '{');
    await writeFile(file, 'x');
    assert.match(await why(), /manifest cannot be read/);
    await rm(`${file}.manifest`);
    assert.match(await why(), /no manifest/);
    const destination = await Destination.open(file, 'write');
    await assert.rejects(destination.checkMayWrite(ORIGIN), /no backup.*give another file/);
    await destination.close();
    assert.equal(await readFile(file, 'utf8'), 'x');
  });

  describe('of another device', () => {
    const host = { ...ORIGIN, host: 'db2', machineId: 'b'.repeat(32) };
    const device = { ...ORIGIN, blockDevice: '/dev/vdc1', stableId: 'PARTUUID=2' };

    async function mayWrite(now: OriginDetails, full: boolean): Promise<void> {
      const destination = await Destination.open(file, 'write', full);
      try {
        await destination.checkMayWrite(now);
      } finally {
        await destination.close();
      }
      await (await Destination.glance(file, full)).destination.checkMayWrite(now);
    }

    function refused(error: unknown): boolean {
      return (
        error instanceof CliError &&
        error.exitCode === EXIT.state &&
        error.message.includes('--full')
      );
    }

    it('is not replaced, unless that is told to', async () => {
      write(file, 'full', 1);
      write(file, 'increment', 2);
      for (const other of [host, device]) {
        await assert.rejects(mayWrite(other, false), refused);
        await mayWrite(other, true);
      }
      await assert.rejects(mayWrite(device, false), /\/dev\/vdb1 on db1, .* \/dev\/vdc1 on db1: /);
      // A host may be renamed, and a device have another path after a reboot.
      await mayWrite({ ...ORIGIN, host: 'new', blockDevice: '/dev/vdq1' }, false);
    });

    it('is not replaced either when nothing can be built on it', async () => {
      const breaks = [() => truncate(file, 4096), () => rm(file)];
      for (const breakIt of breaks) {
        write(file, 'full', 1);
        await breakIt();
        await assert.rejects(mayWrite(device, false), refused);
        await mayWrite(device, true);
        await mayWrite(ORIGIN, false);
      }
      write(file, 'full', 1);
      await truncate(`${file}.manifest`, 100);
      await assert.rejects(mayWrite(ORIGIN, false), refused);
      await mayWrite(ORIGIN, true);
      await rm(file);
      await mayWrite(ORIGIN, false);
    });
  });

  it('is known by names where its manifest has no more', async () => {
    write(file, 'full', 1);
    const manifest = await readFile(`${file}.manifest`, 'utf8');
    await writeFile(`${file}.manifest`, manifest.replace(/ *"(machine|stable)_id": .*\n/g, ''));
    const { destination } = await Destination.glance(file);
    await destination.checkMayWrite(ORIGIN);
    const other = { ...ORIGIN, blockDevice: '/dev/vdc1' };
    await assert.rejects(destination.checkMayWrite(other), /and this is \/dev\/vdc1 on db1/);
  });

  it('finds every MiB that is not what the manifest says', async () => {
    write(file, 'full', 1);
    const data = await readFile(file);
    data.writeUInt8(9, 17);
    data.writeUInt8(9, 2 * CHUNK_SIZE + 17);
    await writeFile(file, data);
    const destination = await Destination.open(file, 'read');
    await assert.rejects(destination.content().check(never), /2 MiB differ, at byte 0, 2097152/);
    await destination.close();
  });

  it('is written by one process at a time, and read by several', async () => {
    write(file, 'full', 1);
    const reader = await Destination.open(file, 'read');
    const second = await Destination.open(file, 'read');
    await assert.rejects(Destination.open(file, 'write'), /in use by another elioctl/);
    await reader.close();
    await second.close();
    const writer = await Destination.open(file, 'write');
    await assert.rejects(Destination.open(file, 'read'), /in use by another elioctl/);
    await writer.close();
    assert.deepEqual(await filesLeft(), ['x.img', 'x.img.manifest']);
  });
});
