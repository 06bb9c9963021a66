// SPDX-License-Identifier: Apache-2.0
// Backup sets, made with QEMU's own tools of a volume that changes at random, read back by those tools, broken, and reopened.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  appendFile,
  cp,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { randomNumbers } from '../../../agent/src/testing/random.js';
import { lengthOf, type Blocks } from '../backup/blocks.js';
import { DROP_STEPS, MERGE_STEPS, SET_STEPS } from '../backup/steps.js';
import { CliError, EXIT } from '../errors.js';
import { checkBackup } from './check.js';
import { mergePair, mergeRun } from './merge.js';
import { prune } from './prune.js';
import { planPrune } from './retention.js';
import { SetContent } from './set-content.js';
import { BackupSet } from './set.js';
import { SetTarget } from './set-target.js';
import { cookieOf, ORIGIN, Volume, volumeAfter } from './testing/volume.js';

const writerProgram = join(import.meta.dirname, 'testing', 'write-set.js');
const never = new AbortController().signal;
/** Neither whole MiB nor whole blocks. */
const sizeBytes = 11 * CHUNK_SIZE + 4096 + 1536;

const exitCode =
  (code: number, message: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof CliError, String(error));
    assert.equal(error.exitCode, code, error.message);
    assert.match(error.message, message);
    assert.ok(!error.message.includes('\n'));
    return true;
  };

describe('a backup set', function () {
  this.timeout(300_000);
  let directory = '';
  /** Sets that several tests begin with are made once. */
  let templateDirectory = '';
  const templates = new Map<string, { directory: string; contents: Map<number, Buffer> }>();
  before(async () => {
    templateDirectory = await mkdtemp(join(tmpdir(), 'elio-set-templates-'));
  });
  after(async () => {
    await rm(templateDirectory, { recursive: true });
  });
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-set-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** The content of a backup as qemu-img gives it. */
  async function contentOf(id: number): Promise<Buffer> {
    const image = join(directory, `${String(id).padStart(6, '0')}.qcow2`);
    const raw = join(directory, 'raw');
    execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw]);
    const content = await readFile(raw);
    await rm(raw);
    return content;
  }

  async function backUp(volume: Volume, seqId: number, full = false): Promise<void> {
    const target = await SetTarget.open(directory, full);
    try {
      await target.checkMayWrite(ORIGIN);
      if (target.base) await target.writeIncrement(volume.increment(), ORIGIN, cookieOf(seqId));
      else await target.writeFull(volume.full(), volume.sizeBytes, ORIGIN, cookieOf(seqId));
    } finally {
      await target.close();
    }
  }

  /** A set of so many backups; gives the content that each should have, by its number. */
  async function fill(
    count: number,
    seed = 1,
    fulls: readonly number[] = [],
  ): Promise<Map<number, Buffer>> {
    const key = JSON.stringify([count, seed, fulls]);
    const known = templates.get(key);
    if (known) {
      await cp(known.directory, directory, { recursive: true });
      return new Map(known.contents);
    }
    const volume = new Volume(seed, sizeBytes);
    const contents = new Map<number, Buffer>();
    for (let id = 1; id <= count; id += 1) {
      if (id > 1) volume.change(12);
      await backUp(volume, id, fulls.includes(id));
      contents.set(id, Buffer.from(volume.content));
    }
    const template = join(templateDirectory, String(templates.size));
    await cp(directory, template, { recursive: true });
    templates.set(key, { directory: template, contents: new Map(contents) });
    return contents;
  }

  async function withSet<T>(
    use: 'read' | 'write',
    task: (set: BackupSet) => Promise<T>,
  ): Promise<T> {
    const set = await BackupSet.open(directory, use);
    try {
      return await task(set);
    } finally {
      await set.close();
    }
  }

  /** All that is wrong with the set. */
  function problems(): Promise<string[]> {
    return withSet('read', async (set) => {
      const found: string[] = [];
      for (const backup of set.backups) found.push(...(await checkBackup(set, backup, never)));
      return found;
    });
  }

  /** Every backup that there is is whole, and has the content that it should have. */
  async function assertWhole(
    contents: ReadonlyMap<number, Buffer>,
    ids: readonly number[],
  ): Promise<void> {
    assert.deepEqual(await problems(), []);
    await withSet('read', async (set) => {
      assert.deepEqual(
        set.backups.map(({ id }) => id),
        ids,
      );
      for (const { id } of set.backups) {
        assert.ok((await contentOf(id)).equals(contents.get(id) ?? Buffer.alloc(0)), String(id));
      }
      assert.deepEqual(await set.orphans(), []);
    });
    const suffixes = (await readdir(directory)).map((name) => name.replace(/^\d+/, ''));
    const expected = ids.flatMap(() => ['.json', '.qcow2', '.sums']);
    assert.deepEqual(suffixes.sort(), expected.sort());
  }

  /** Runs the writer in a process of its own; `step` ends it there as a power cut would. */
  function write(step: string, ...words: readonly string[]): void {
    const argv = [writerProgram, directory, ...words];
    const env = { ...process.env, ELIO_TEST_STOP_AT: step };
    const { signal, status, stderr } = spawnSync(process.execPath, argv, { env, encoding: 'utf8' });
    if (step === '') assert.equal(status, 0, stderr);
    else assert.equal(signal, 'SIGKILL', `${step}: ${String(status)} ${stderr}`);
  }

  it('holds a full and many incrementals, which QEMU reads as the volume was then', async () => {
    const contents = await fill(14, 7);
    await assertWhole(
      contents,
      Array.from({ length: 14 }, (_, i) => i + 1),
    );
    const newest = join(directory, '000014.qcow2');
    const info = execFileSync('qemu-img', ['info', '--output=json', newest]).toString();
    const { 'backing-filename': backing, 'backing-filename-format': format } = JSON.parse(
      info,
    ) as Record<string, unknown>;
    assert.equal(backing, '000013.qcow2');
    assert.equal(format, 'qcow2');
    execFileSync('qemu-img', ['check', '-q', newest]);
    const raw = join(directory, 'raw');
    const server = ['[', 'qemu-nbd', '--read-only', '--format=qcow2', newest, ']'];
    execFileSync('nbdcopy', ['--', ...server, raw]);
    assert.ok((await readFile(raw)).equals(contents.get(14) ?? Buffer.alloc(0)));
    assert.equal((await stat(newest)).mode & 0o777, 0o600);
  });

  it('is read through its chain, at any place', async () => {
    const contents = await fill(5, 3);
    await withSet('read', async (set) => {
      const content = new SetContent(set, set.require(4));
      await content.check(never);
      const reader = await content.open();
      const all = Buffer.alloc(content.sizeBytes);
      const reads = [];
      for (let at = 0; at < all.length; at += CHUNK_SIZE) {
        reads.push(reader.read(all.subarray(at, at + CHUNK_SIZE), at));
      }
      await Promise.all(reads);
      await reader.close();
      assert.ok(all.equals(contents.get(4) ?? Buffer.alloc(0)));
    });
  });

  it('grows by what has changed, and by nothing for zeros', async () => {
    const volume = new Volume(1, 64 * CHUNK_SIZE);
    await backUp(volume, 1);
    const random = randomNumbers(5);
    const blocks = new Set(Array.from({ length: 60 }, () => random(64 * 256)));
    async function* scattered(): AsyncGenerator<{ kind: 'data'; offset: number; data: Buffer }> {
      for (const block of [...blocks].sort((a, b) => a - b)) {
        yield await Promise.resolve({
          kind: 'data' as const,
          offset: block * 4096,
          data: Buffer.alloc(4096, 1),
        });
      }
    }
    async function* zeros(): AsyncGenerator<{ kind: 'hole'; offset: number; length: number }> {
      yield await Promise.resolve({ kind: 'hole' as const, offset: 4096, length: 40 * CHUNK_SIZE });
    }
    const sizes: number[] = [];
    for (const [i, stream] of [scattered(), zeros()].entries()) {
      const target = await SetTarget.open(directory, false);
      const { path } = await target.writeIncrement(stream, ORIGIN, cookieOf(i + 2));
      await target.close();
      sizes.push((await stat(path)).blocks * 512);
    }
    const [data = 0, hole = 0] = sizes;
    // What QEMU needs for itself is the same in both.
    assert.ok(data - hole <= 60 * 4096 + 128 * 1024, sizes.join());
    assert.ok(hole < CHUNK_SIZE, sizes.join());
    assert.deepEqual(await problems(), []);
  });

  it('begins a new chain when it is told to, beside the old one', async () => {
    const contents = await fill(5, 2, [4]);
    await assertWhole(contents, [1, 2, 3, 4, 5]);
    await withSet('read', async (set) => {
      assert.deepEqual(
        set.backups.map(({ parent }) => parent),
        [null, 1, 2, null, 4],
      );
      await Promise.resolve();
    });
  });

  for (const [rounds, name] of [
    [0, 'full'],
    [2, 'incremental'],
  ] as const) {
    for (const step of SET_STEPS.slice(1, -1)) {
      it(`has its former backups and perhaps the new one when a ${name} one ends at "${step}"`, async () => {
        const seed = 11;
        if (rounds > 0) await fill(rounds, seed);
        write(step, String(seed), String(sizeBytes), String(rounds));
        const isThere = ['layer-committed', 'layer-in-place', 'committed'].includes(step);
        const ids = Array.from({ length: rounds + (isThere ? 1 : 0) }, (_, i) => i + 1);
        const contents = new Map(
          ids.map((id) => [id, volumeAfter(seed, sizeBytes, id - 1).content]),
        );
        await assertWhole(contents, ids);
        // The next run builds on the last one that is complete.
        const last = ids.length;
        write('', String(seed), String(sizeBytes), String(last));
        contents.set(last + 1, volumeAfter(seed, sizeBytes, last).content);
        await assertWhole(contents, [...ids, last + 1]);
      });
    }
  }

  it('has nothing of a backup whose stream breaks, and says why', async () => {
    const contents = await fill(2);
    const target = await SetTarget.open(directory, false);
    async function* broken(): AsyncGenerator<{ kind: 'hole'; offset: number; length: number }> {
      yield await Promise.resolve({ kind: 'hole' as const, offset: 0, length: 4096 });
      throw new CliError('interrupted', EXIT.interrupted);
    }
    await assert.rejects(
      target.writeIncrement(broken(), ORIGIN, cookieOf(3)),
      exitCode(EXIT.interrupted, /interrupted/),
    );
    await assert.rejects(
      target.writeFull(broken(), 4096 * 2, ORIGIN, cookieOf(3)),
      exitCode(EXIT.interrupted, /interrupted/),
    );
    await target.close();
    await assertWhole(contents, [1, 2]);
  });

  it('leaves out what the stream says that it skipped', async () => {
    const volume = new Volume(8, sizeBytes);
    async function* skipping(): AsyncGenerator<Blocks> {
      for await (const piece of volume.full()) {
        const { offset } = piece;
        const isSkipped = offset >= 2 * CHUNK_SIZE && offset < 4 * CHUNK_SIZE;
        const skipped = { kind: 'skipped', offset, length: lengthOf(piece) };
        yield isSkipped ? (skipped as unknown as Blocks) : piece;
      }
    }
    const target = await SetTarget.open(directory, false);
    await target.writeFull(skipping(), sizeBytes, ORIGIN, cookieOf(1));
    await target.close();
    await withSet('read', (set) => {
      const { skipped_bytes: skipped, held_bytes: held } = set.require(1);
      assert.deepEqual([skipped, held], [2 * CHUNK_SIZE, sizeBytes - 2 * CHUNK_SIZE]);
      return Promise.resolve();
    });
    assert.deepEqual(await problems(), []);
    const content = await contentOf(1);
    volume.content.fill(0, 2 * CHUNK_SIZE, 4 * CHUNK_SIZE);
    assert.ok(content.equals(volume.content));
  });

  it('refuses another host or device by name, unless a new chain is wanted', async () => {
    await fill(1);
    const target = await SetTarget.open(directory, false);
    const other = { ...ORIGIN, host: 'db2', machineId: 'b'.repeat(32) };
    await assert.rejects(target.checkMayWrite(other), exitCode(EXIT.state, /db1.*db2.*--full/));
    await assert.rejects(
      target.checkMayWrite({ ...ORIGIN, stableId: 'PARTUUID=2', blockDevice: '/dev/vdc1' }),
      exitCode(EXIT.state, /\/dev\/vdb1 on db1.*\/dev\/vdc1 on db1/),
    );
    // The same disk after a reboot, and a host with a new name.
    await target.checkMayWrite({ ...ORIGIN, host: 'new', blockDevice: '/dev/vdq1' });
    await target.close();
    const full = await SetTarget.open(directory, true);
    await full.checkMayWrite(other);
    assert.equal(full.base, undefined);
    await full.close();
  });

  it('is used by one writer or several readers at a time', async () => {
    await fill(1);
    const one = await BackupSet.open(directory, 'read');
    const two = await BackupSet.open(directory, 'read');
    await assert.rejects(
      SetTarget.open(directory, false),
      exitCode(EXIT.busy, /in use by another/),
    );
    await one.close();
    await two.close();
    const writer = await SetTarget.open(directory, false);
    await assert.rejects(
      BackupSet.open(directory, 'read'),
      exitCode(EXIT.busy, /in use by another/),
    );
    await assert.rejects(SetTarget.open(directory, true), exitCode(EXIT.busy, /in use by another/));
    await writer.close();
  });

  describe('that somebody has touched', () => {
    beforeEach(async () => {
      await fill(4, 5);
    });

    const file = (name: string): string => join(directory, name);

    async function flip(name: string, offset: number): Promise<void> {
      const handle = await open(file(name), 'r+');
      const byte = Buffer.alloc(1);
      await handle.read(byte, 0, 1, offset);
      byte.writeUInt8(byte.readUInt8() ^ 0x10);
      await handle.write(byte, 0, 1, offset);
      await handle.close();
    }

    it('is refused by the next backup with what is missing, and is a chain again when it is back', async () => {
      const refused = async (message: RegExp): Promise<void> => {
        const target = await SetTarget.open(directory, false);
        await assert.rejects(target.checkMayWrite(ORIGIN), exitCode(EXIT.state, message));
        await target.close();
      };
      for (const name of ['000002.qcow2', '000001.sums', '000003.json']) {
        await rename(file(name), file('away'));
        await refused(new RegExp(name));
        await rename(file('away'), file(name));
      }
      await appendFile(file('000002.qcow2'), 'x');
      await refused(/000002\.qcow2 is altered: it has/);
      await truncate(file('000002.qcow2'), (await stat(file('000002.qcow2'))).size - 1);
      const manifest = await readFile(file('000004.json'));
      await writeFile(file('000004.json'), manifest.subarray(0, 100));
      await refused(/the manifest of backup 4 cannot be read/);
      await writeFile(file('000004.json'), manifest);
      assert.deepEqual(await problems(), []);
    });

    it('finds each flipped bit, and the MiB of the volume that has it', async () => {
      const random = randomNumbers(9);
      interface MapEntry {
        start: number;
        length: number;
        data: boolean;
        offset?: number;
      }
      for (let id = 1; id <= 4; id += 1) {
        const name = `00000${String(id)}.qcow2`;
        const alone = `json:${JSON.stringify({ driver: 'qcow2', file: { driver: 'file', filename: file(name) }, backing: null })}`;
        const map = execFileSync('qemu-img', ['map', '--output=json', alone]).toString();
        const entries = (JSON.parse(map) as MapEntry[]).filter(
          ({ data, offset }) => data && offset !== undefined,
        );
        for (let i = 0; i < 3; i += 1) {
          const entry = entries[random(entries.length)];
          if (!entry) continue;
          const at = random(entry.length);
          await flip(name, (entry.offset ?? 0) + at);
          const chunk = Math.floor((entry.start + at) / CHUNK_SIZE) * CHUNK_SIZE;
          const [problem = '', ...others] = await problems();
          assert.equal(
            problem,
            `${name} is altered: 1 MiB of the volume differ, at byte ${String(chunk)}`,
          );
          assert.deepEqual(others, []);
          await flip(name, (entry.offset ?? 0) + at);
        }
      }
    });

    it('finds flipped bits in metadata and checksums, and files that are away', async () => {
      for (const [name, offset] of [
        ['000002.qcow2', 25],
        ['000003.sums', 70],
        ['000001.sums', 3],
      ] as const) {
        await flip(name, offset);
        assert.match((await problems()).join(), new RegExp(`^${name} is altered`));
        await flip(name, offset);
      }
      await rm(file('000003.qcow2'));
      assert.deepEqual(await problems(), ['000003.qcow2 is missing']);
    });

    it('finds what was written into it, or discarded, by others', async () => {
      const qemuIo = (command: string, name: string): void => {
        const argv = ['-d', 'unmap', '-f', 'qcow2', '-c', command, file(name)];
        execFileSync('qemu-io', argv, { stdio: 'ignore' });
      };
      const image = await readFile(file('000004.qcow2'));
      for (const command of ['write -P 7 0 4096', 'write -z 0 1M', 'discard 0 11M']) {
        qemuIo(command, '000004.qcow2');
        assert.match((await problems()).join(), /000004\.qcow2 is altered/, command);
        await writeFile(file('000004.qcow2'), image);
      }
      assert.deepEqual(await problems(), []);
    });

    it('keeps files without a manifest, and gives their number to nobody', async () => {
      await rename(file('000004.json'), file('away'));
      const volume = new Volume(1, sizeBytes);
      volume.change(3);
      await backUp(volume, 9);
      assert.ok(existsSync(file('000004.qcow2')));
      await withSet('read', async (set) => {
        assert.deepEqual(
          set.backups.map(({ id, parent }) => [id, parent]),
          [
            [1, null],
            [2, 1],
            [3, 2],
            [5, 3],
          ],
        );
        assert.deepEqual((await set.orphans()).sort(), ['000004.qcow2', '000004.sums']);
      });
    });
  });

  describe('that is pruned', () => {
    it('keeps the content of every backup that stays, whichever go', async () => {
      const random = randomNumbers(21);
      for (let round = 0; round < 2; round += 1) {
        const fulls = [1 + random(6)];
        const contents = await fill(6, 30 + round, fulls);
        let ids = [1, 2, 3, 4, 5, 6];
        while (ids.length > 1) {
          const keepLast = ids.length - 1 - random(Math.min(3, ids.length - 1));
          await withSet('write', async (set) => {
            await prune(set, planPrune(set.backups, { keepLast }, new Date()), never);
          });
          ids = ids.slice(-keepLast);
          await assertWhole(contents, ids);
        }
        for (const name of await readdir(directory)) await rm(join(directory, name));
      }
    });

    it('merges any two neighbours, and takes further backups', async () => {
      const contents = await fill(6, 40);
      let ids = [1, 2, 3, 4, 5, 6];
      for (const [id, into] of [
        [3, 'successor'],
        [6, 'predecessor'],
        [1, 'successor'],
      ] as const) {
        await withSet('write', (set) => mergeRun(set, mergePair(set, id, into), never));
        ids = ids.filter((one) => one !== (into === 'successor' ? id : id - 1));
        await assertWhole(contents, ids);
      }
      const volume = volumeAfter(40, sizeBytes, 6);
      await backUp(volume, 7);
      contents.set(7, volume.content);
      await assertWhole(contents, [...ids, 7]);
    });

    it('merges nothing on which another backup builds', async () => {
      const contents = await fill(4, 42);
      const away = join(directory, 'away');
      await rename(join(directory, '000004.json'), away);
      const volume = volumeAfter(42, sizeBytes, 2);
      volume.change(3);
      await backUp(volume, 5);
      contents.set(5, volume.content);
      await rename(away, join(directory, '000004.json'));
      const refusal = exitCode(EXIT.state, /^backup 3 cannot .*: several backups build on it$/);
      await withSet('write', async (set) => {
        for (const id of [4, 5]) {
          assert.throws(() => mergePair(set, id, 'predecessor'), refusal);
          const run = [set.require(2), set.require(3), set.require(id)];
          await assert.rejects(mergeRun(set, run, never), refusal);
        }
        assert.throws(() => mergePair(set, 3, 'successor'), refusal);
      });
      await assertWhole(contents, [1, 2, 3, 4, 5]);
    });

    it('is what it was when something is damaged that would be merged', async () => {
      const contents = await fill(3, 41);
      const name = join(directory, '000002.qcow2');
      const image = await readFile(name);
      const damaged = Buffer.from(image);
      damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1);
      for (let at = 5 * 128 * 1024; at < damaged.length; at += 4096) {
        damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
      }
      await writeFile(name, damaged);
      await withSet('write', async (set) => {
        await assert.rejects(
          mergeRun(set, mergePair(set, 1, 'successor'), never),
          exitCode(EXIT.failed, /000002\.qcow2 .*nothing was merged|000002\.qcow2/),
        );
      });
      await writeFile(name, image);
      await assertWhole(contents, [1, 2, 3]);
    });

    for (const step of MERGE_STEPS) {
      it(`has every backup that stays when a merge ends at "${step}"`, async () => {
        const contents = await fill(5, 50);
        write(step, 'prune', '2');
        const ids = step === 'merge-verified' ? [1, 2, 3, 4, 5] : [4, 5];
        await assertWhole(contents, ids);
        const volume = volumeAfter(50, sizeBytes, 5);
        await backUp(volume, 6);
        contents.set(6, volume.content);
        await assertWhole(contents, [...ids, 6]);
      });
    }

    for (const step of DROP_STEPS) {
      it(`has every backup that stays when a deletion ends at "${step}"`, async () => {
        const contents = await fill(4, 60, [4]);
        write(step, 'prune', '1');
        await assertWhole(contents, [1, 2, 4]);
        write('', 'prune', '1');
        await assertWhole(contents, [4]);
      });
    }
  });
});
