// SPDX-License-Identifier: Apache-2.0
// Backups into files of this machine; and, with a file in the place of a device, onto what is there already.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { openSync, closeSync } from 'node:fs';
import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChangeMap } from '../../../agent/src/changes/change-map.js';
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';
import { writeBlocks } from '../backup/file-io.js';
import type { BackupContent } from '../backup/target.js';
import { CliError, EXIT } from '../errors.js';
import { Volume } from '../sets/testing/volume.js';
import { processesWith } from './device.js';
import { findPlace, LocalFile } from './file.js';
import { restoreLocally } from './restore.js';
import type { LocalTarget } from './target.js';
import { parseTrackedOrigins } from './tracked-origins.js';

/** Neither whole MiB nor whole blocks. */
const sizeBytes = 20 * CHUNK_SIZE + 4096 + 1536;
const never = new AbortController().signal;

const exitCode =
  (code: number, message: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof CliError, String(error));
    assert.equal(error.exitCode, code, error.message);
    assert.match(error.message, message);
    return true;
  };

/** A backup in memory, with the checksums of `expected`. `onRead` is called before a chunk is read. */
function backupOf(
  volume: Buffer,
  onRead: (index: number) => void = () => undefined,
  expected = volume,
): BackupContent {
  return {
    name: 'backup',
    sizeBytes: volume.length,
    cookie: { uuid: '', seq_id: 1, nonce: '' },
    skipped: ChangeMap.empty(0),
    isCheckedWhileRead: true,
    check: () => Promise.resolve(),
    open: () =>
      Promise.resolve({
        read: (buffer, position) => {
          onRead(position / CHUNK_SIZE);
          volume.copy(buffer, 0, position, position + buffer.length);
          return Promise.resolve();
        },
        digestOf: (index) =>
          chunkDigest(expected.subarray(index * CHUNK_SIZE, (index + 1) * CHUNK_SIZE)),
        close: () => Promise.resolve(),
      }),
  };
}

describe('a restore on this machine', function () {
  this.timeout(60_000);
  let directory = '';
  let path = '';
  let volume: Buffer;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-local-'));
    path = join(directory, 'x.img');
    volume = new Volume(4, sizeBytes).content;
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  function restore(backup: BackupContent, signal = never): ReturnType<typeof restoreLocally> {
    const place = { path, open: () => LocalFile.create(path, sizeBytes) };
    return restoreLocally(place, backup, false, signal);
  }

  it('makes a file with holes, for its owner only', async () => {
    volume.fill(0, CHUNK_SIZE, 12 * CHUNK_SIZE);
    const { target, bytes } = await restore(backupOf(volume));
    assert.equal(target, path);
    assert.ok((await readFile(path)).equals(volume));
    const { blocks, mode } = await stat(path);
    // Half of the rest is zero, too, in runs of 64 KiB.
    assert.ok(blocks * 512 < 8 * CHUNK_SIZE, String(blocks * 512));
    assert.equal(mode & 0o777, 0o600);
    assert.deepEqual([bytes.data + bytes.zeros, bytes.same], [sizeBytes, undefined]);
    assert.deepEqual(await readdir(directory), ['x.img']);
  });

  it('leaves the file that was there, and nothing else, when it is interrupted', async () => {
    await writeFile(path, 'old');
    const controller = new AbortController();
    const backup = backupOf(volume, (index) => {
      if (index === 9) controller.abort();
    });
    await assert.rejects(
      restore(backup, controller.signal),
      exitCode(EXIT.interrupted, /^interrupted; .*x\.img\.partial was deleted$/),
    );
    assert.deepEqual(await readdir(directory), ['x.img']);
    assert.equal(await readFile(path, 'utf8'), 'old');
  });

  it('leaves nothing of a damaged backup', async () => {
    const damaged = Buffer.from(volume);
    damaged.writeUInt8(damaged.readUInt8(9 * CHUNK_SIZE) ^ 1, 9 * CHUNK_SIZE);
    await assert.rejects(
      restore(backupOf(damaged, undefined, volume)),
      exitCode(EXIT.failed, /damaged at byte 9437184: run elioctl verify; .*was deleted$/),
    );
    assert.deepEqual(await readdir(directory), []);
  });

  it('finds that the disk gives other data back than it took', async () => {
    const faulty = async (): Promise<LocalTarget> => {
      const file = await LocalFile.create(path, sizeBytes);
      const sync = async (): Promise<void> => {
        await file.sync();
        const handle = await open(file.readPath, 'r+');
        await handle.write(Buffer.from([1, 2, 3, 4]), 0, 4, 7 * CHUNK_SIZE + 100);
        await handle.sync();
        await handle.close();
      };
      return {
        path,
        readPath: file.readPath,
        writer: () => file.writer(),
        sync,
        complete: () => file.complete(),
        abandon: () => file.abandon(),
      };
    };
    await assert.rejects(
      restoreLocally({ path, open: faulty }, backupOf(volume), false, never),
      exitCode(EXIT.failed, /does not give back what was written at byte 7340032: /),
    );
    assert.deepEqual(await readdir(directory), []);
  });

  it('writes only what differs, if it is told to', async () => {
    const former = Buffer.from(volume);
    former.writeUInt8(former.readUInt8(3 * CHUNK_SIZE) ^ 1, 3 * CHUNK_SIZE);
    former.fill(9, 20 * CHUNK_SIZE);
    volume.fill(0, 20 * CHUNK_SIZE);
    await writeFile(path, former);
    const handle = await open(path, 'r+');
    const read: number[] = [];
    const target: LocalTarget = {
      path,
      readPath: path,
      writer: () => (blocks) => writeBlocks(handle, blocks),
      sync: () => handle.sync(),
      complete: () => handle.close(),
      abandon: () => Promise.resolve(''),
    };
    const { bytes } = await restoreLocally(
      { path, open: () => Promise.resolve(target) },
      backupOf(volume, (index) => read.push(index)),
      true,
      never,
    );
    assert.deepEqual(bytes, { data: CHUNK_SIZE, zeros: 4096 + 1536, same: 19 * CHUNK_SIZE });
    assert.deepEqual(
      read.sort((a, b) => a - b),
      [3, 20],
    );
    assert.ok((await readFile(path)).equals(volume));
  });

  it('says what to do when there is no room, or the target cannot be written', async () => {
    const refusing =
      (code: string): (() => Promise<LocalTarget>) =>
      () =>
        Promise.reject(Object.assign(new Error('write'), { code, syscall: 'write' }));
    const refused = (code: string): Promise<unknown> =>
      restoreLocally({ path, open: refusing(code) }, backupOf(volume), false, never);
    await assert.rejects(refused('ENOSPC'), exitCode(EXIT.failed, /x\.img .*there is no room/));
    await assert.rejects(refused('EROFS'), exitCode(EXIT.unreachable, /give another target/));
  });

  it('is the only one that writes to a file', async () => {
    const first = await LocalFile.create(path, sizeBytes);
    await assert.rejects(LocalFile.create(path, sizeBytes), exitCode(EXIT.busy, /in use/));
    await first.abandon();
    assert.deepEqual(await readdir(directory), []);
  });

  it('refuses to replace what is no file, or part of a backup', async () => {
    const refused = async (name: string, message: RegExp): Promise<void> => {
      await assert.rejects(findPlace(join(directory, name)), exitCode(EXIT.usage, message));
    };
    await mkdir(join(directory, 'd'));
    await refused('d', /neither a file nor a block device/);
    await writeFile(join(directory, 'raw'), '');
    await writeFile(join(directory, 'raw.manifest'), '');
    await symlink('raw', join(directory, 'link'));
    for (const name of ['raw', 'link']) await refused(name, /raw is a backup \(raw\.manifest /);
    // The first backup to a file that a crash kept from its last step.
    await writeFile(join(directory, 'first.next'), '');
    await refused('first', /first is a backup \(first\.next /);
    await writeFile(join(directory, '000001.qcow2'), '');
    await refused('000001.qcow2', /is a file of a backup set/);
    await assert.rejects(
      findPlace('/dev/elio-missing'),
      exitCode(EXIT.notFound, /\/dev\/elio-missing does not exist/),
    );
    await assert.rejects(
      findPlace(join(directory, 'no', 'x')),
      exitCode(EXIT.notFound, /no does not exist/),
    );
    assert.deepEqual(await findPlace(path), { path, exists: false });
  });

  it('names the processes that have a device open', async () => {
    await writeFile(path, '');
    const descriptor = openSync(path, 'r');
    const child = spawn('sleep', ['60'], { stdio: [descriptor, 'ignore', 'ignore'] });
    closeSync(descriptor);
    try {
      const pid = String(child.pid);
      assert.deepEqual(await processesWith(path), [`open in process ${pid} (sleep)`]);
    } finally {
      child.kill();
    }
  });

  it('knows from the module which devices are tracked', () => {
    const text = `{
	"version": "0.1.0",
	"devices": [
		{
			"minor": 20,
			"cow_file": "/cow",
			"block_device": "/dev/vdb1",
			"state": 3
		}
	]
}`;
    assert.deepEqual(parseTrackedOrigins(text), [{ minor: 20, blockDevice: '/dev/vdb1' }]);
    assert.deepEqual(parseTrackedOrigins('{"version": "0.1.0", "devices": [\n\n]}'), []);
  });
});
