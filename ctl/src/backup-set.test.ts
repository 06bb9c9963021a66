// SPDX-License-Identifier: Apache-2.0
// The program elioctl against an agent: backups into a set, verification, and restores from it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BackupResult } from './backup/backup.js';
import { EXIT } from './errors.js';
import { Volume } from './sets/testing/volume.js';
import { runElioctl, type RunResult } from './testing/run-elioctl.js';
import { StubOrigin } from './testing/stub-origin.js';

describe('elioctl with a set', function () {
  this.timeout(60_000);
  let directory = '';
  let set = '';
  let origin: StubOrigin;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-backup-set-'));
    set = join(directory, 'new', 'set');
    origin = await StubOrigin.start(join(directory, 'socket'), new Volume(1, (5 << 20) + 4096));
  });
  afterEach(() => {
    origin.stop();
    rmSync(directory, { recursive: true });
  });

  function elioctl(...words: string[]): Promise<RunResult> {
    return runElioctl(['--socket', join(directory, 'socket'), ...words]);
  }

  async function backUp(...words: string[]): Promise<BackupResult> {
    const result = await elioctl('backup', '--output=json', ...words, '/dev/vdb1', `${set}/`);
    assert.equal(result.status, EXIT.ok, result.stderr);
    return JSON.parse(result.stdout) as BackupResult;
  }

  it('makes a full backup, then incremental ones, and restores each', async () => {
    const contents: Buffer[] = [];
    for (const parent of [null, 1, 2]) {
      if (parent !== null) origin.volume.change(5);
      const result = await backUp();
      assert.equal(result.type, parent === null ? 'full' : 'incremental');
      assert.equal(result.parent, parent);
      assert.equal(result.file, join(set, `00000${String(result.id)}.qcow2`));
      assert.ok(origin.isIncremental);
      contents.push(Buffer.from(origin.volume.content));
    }
    for (const [i, content] of contents.entries()) {
      const source = i === 2 ? set : `${set}@${String(i + 1)}`;
      const restored = await elioctl('restore', '--yes', source, '/dev/vdc1');
      assert.equal(restored.status, EXIT.ok, restored.stderr);
      assert.ok(origin.target.equals(content));
      const raw = join(directory, 'raw');
      const image = join(set, `00000${String(i + 1)}.qcow2`);
      execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw]);
      assert.ok(readFileSync(raw).equals(content));
    }
  });

  it('compares a backup with the image, and finds what differs', async () => {
    await backUp('--verify', '--keep-snapshot');
    assert.equal((await elioctl('verify', set, '/dev/vdb1')).status, EXIT.ok);
    origin.volume.change(1);
    const { status, stderr } = await elioctl('verify', set, '/dev/vdb1');
    assert.equal(status, EXIT.failed);
    assert.match(stderr, /@1 is not what the image shows: \d+ blocks differ/);
  });

  for (const form of ['set', 'raw'] as const) {
    it(`builds on no backup of which --verify finds that it differs (${form})`, async () => {
      const place = form === 'set' ? `${set}/` : join(directory, 'raw');
      const backUpTo = (): Promise<RunResult> =>
        elioctl('backup', '--output=json', '--verify', '/dev/vdb1', place);
      assert.equal((await backUpTo()).status, EXIT.ok);
      origin.volume.change(5);
      origin.tamper = (message) => {
        if (message.content?.$case !== 'data') return message;
        const at = Number(message.content.value.offsetBytes);
        origin.volume.content.writeUInt8(origin.volume.content.readUInt8(at) ^ 1, at);
        origin.tamper = (next) => next;
        return message;
      };
      const { status, stderr } = await backUpTo();
      assert.equal(status, EXIT.failed);
      const fate = form === 'set' ? 'it was deleted again' : 'the next backup is a full one';
      assert.match(stderr, new RegExp(`1 blocks differ, at byte \\d+; .*${fate}$`, 'm'));
      assert.ok(origin.isIncremental);
      if (form === 'set') {
        const left = ['000001.json', '000001.qcow2', '000001.sums'];
        assert.deepEqual(readdirSync(set).sort(), left);
      }
      origin.oldestKnown = 1n;
      const next = await backUpTo();
      assert.equal(next.status, EXIT.ok, next.stderr);
      const { type, parent } = JSON.parse(next.stdout) as BackupResult;
      const expected = form === 'set' ? ['incremental', 1] : ['full', null];
      assert.deepEqual([type, parent], expected);
      assert.equal((await elioctl('verify', place)).status, EXIT.ok);
    });

    describe(`leaves out what the filesystem does not use (${form})`, () => {
      let place = '';
      beforeEach(() => {
        place = form === 'set' ? `${set}/` : join(directory, 'raw');
        for (let block = 20; block < 60; block += 1) origin.volume.unused.add(block);
        for (let block = 256; block < 700; block += 1) origin.volume.unused.add(block);
      });

      async function run(...words: string[]): Promise<string> {
        const result = await elioctl(...words);
        assert.equal(result.status, EXIT.ok, result.stderr);
        return result.stdout;
      }

      async function backUpTo(...words: string[]): Promise<BackupResult> {
        const text = await run('backup', '--output=json', '--verify', ...words, '/dev/vdb1', place);
        return JSON.parse(text) as BackupResult;
      }

      /** Where the restored device holds other blocks than the volume. */
      async function differences(): Promise<number[]> {
        await run('verify', place);
        await run('restore', '--yes', place, '/dev/vdc1');
        const { content, sizeBytes } = origin.volume;
        return Array.from({ length: Math.ceil(sizeBytes / 4096) }, (_, i) => i).filter((i) => {
          const part = content.subarray(i * 4096, (i + 1) * 4096);
          return !part.equals(origin.target.subarray(i * 4096, (i + 1) * 4096));
        });
      }

      it('sends none of it, and restores all that is used', async () => {
        const { skipped_bytes: skipped } = await backUpTo();
        assert.equal(skipped, (40 + 444) * 4096);
        const different = await differences();
        assert.ok(different.length > 0);
        assert.ok(different.every((block) => origin.volume.unused.has(block)));
      });

      it('knows in later backups what nobody has sent', async () => {
        await backUpTo();
        origin.volume.change(40);
        // Allocated, but not written: that is no change, and no difference either.
        for (let block = 256; block < 700; block += 2) origin.volume.unused.delete(block);
        // Written, and then not used any more.
        for (let block = 1000; block < 1200; block += 1) origin.volume.unused.add(block);
        const { type, skipped_bytes: skipped } = await backUpTo();
        assert.equal(type, 'incremental');
        assert.ok(skipped > 0);
        origin.volume.change(40);
        for (let block = 1000; block < 1200; block += 1) origin.volume.unused.delete(block);
        await backUpTo('--keep-snapshot');
        await run('verify', place, '/dev/vdb1');
        const damaged = 1201 * 4096;
        origin.volume.content.writeUInt8(origin.volume.content.readUInt8(damaged) ^ 1, damaged);
        const { status, stderr } = await elioctl('verify', place, '/dev/vdb1');
        assert.equal(status, EXIT.failed);
        assert.match(stderr, /1 blocks differ, at byte 4919296/);
      });

      it('sends it all the same with --all', async () => {
        const { skipped_bytes: skipped } = await backUpTo('--all');
        assert.equal(skipped, 0);
        assert.deepEqual(await differences(), []);
      });
    });
  }

  it('makes a full backup when it has to, or is told to, and says why', async () => {
    await backUp();
    assert.match((await backUp('--full')).reason, /asked for by --full/);
    origin.nonce = 'e'.repeat(32);
    const result = await backUp();
    assert.deepEqual([result.type, result.id, result.parent], ['full', 3, null]);
    assert.match(result.reason, /what has changed is not known/);
  });

  it('says what it would do, and makes nothing', async () => {
    const plan = async (): Promise<string> => {
      const { status, stdout, stderr } = await elioctl(
        'backup',
        '--dry-run',
        '/dev/vdb1',
        `${set}/`,
      );
      assert.equal(status, EXIT.ok, stderr);
      return stdout;
    };
    assert.match(
      await plan(),
      /start tracking .* in full \(this is the first backup in this set\)/,
    );
    assert.ok(!existsSync(set));
    await backUp();
    assert.match(await plan(), /next snapshot .* what has changed since snapshot 1/);
    const restore = await elioctl('restore', '--dry-run', `${set}@1`, '/dev/vdc1');
    assert.match(restore.stdout, /would overwrite \/dev\/vdc1 with .*set@1/);
  });

  it('takes no snapshot for what cannot become a backup', async () => {
    const refused = async (status: number, message: RegExp): Promise<void> => {
      const result = await elioctl('backup', '/dev/vdb1', set);
      assert.equal(result.status, status, result.stderr);
      assert.match(result.stderr, message);
      assert.equal(result.stderr.trimEnd().split('\n').length, 1, result.stderr);
    };
    await backUp();
    origin.hostname = 'db2';
    await refused(EXIT.state, /\/dev\/vdb1 on db1, and this is \/dev\/vdb1 on db2/);
    origin.hostname = 'db1';
    renameSync(join(set, '000001.qcow2'), join(set, 'away'));
    await refused(EXIT.state, /the chain of backup 1 is broken: 000001\.qcow2 is missing/);
    renameSync(join(set, 'away'), join(set, '000001.qcow2'));
    assert.equal((await backUp()).cookie.seq_id, 2);
    assert.equal(readdirSync(set).length, 6);
  });

  it('replaces a raw backup of another host only with --full', async () => {
    const raw = join(directory, 'raw');
    const run = async (status: number, ...words: string[]): Promise<string> => {
      const result = await elioctl('backup', ...words, '/dev/vdb1', raw);
      assert.equal(result.status, status, result.stderr);
      return result.stderr;
    };
    await run(EXIT.ok);
    origin.hostname = 'db2';
    origin.calls.length = 0;
    for (const words of [[], ['--dry-run']]) {
      const message = await run(EXIT.state, ...words);
      assert.match(message, /a backup of \/dev\/vdb1 on db1, and this is \/dev\/vdb1 on db2/);
    }
    await run(EXIT.ok, '--dry-run', '--full');
    assert.deepEqual(origin.calls, []);
    await run(EXIT.ok, '--full');
    await run(EXIT.ok);
  });

  describe('and a lease', () => {
    /** What becomes of the snapshot before that call is answered. */
    function when(call: string, happens: () => void): void {
      origin.onCall = (name) => {
        if (name === call) happens();
      };
    }

    for (const name of ['raw', 'other/']) {
      it(`holds it until the backup is complete (${name})`, async () => {
        const place = join(directory, name);
        for (const first of ['setupSnapshot', 'transitionToSnapshot']) {
          origin.calls.length = 0;
          const { status, stderr } = await elioctl('backup', '/dev/vdb1', place);
          assert.equal(status, EXIT.ok, stderr);
          const rest = ['renewLease', 'deleteOldCowFile', 'transitionToIncremental'];
          assert.deepEqual(origin.calls, [first, ...rest]);
        }
      });
    }

    it('has no objection when it has ended in the end', async () => {
      when('deleteOldCowFile', () => {
        origin.endLease();
      });
      const { cookie } = await backUp();
      assert.equal(cookie.seq_id, 1);
      assert.equal(origin.calls.at(-1), 'transitionToIncremental');
    });

    it('objects when the tracker is of another snapshot in the end', async () => {
      when('deleteOldCowFile', () => {
        origin.passSnapshot();
      });
      const { status, stderr } = await elioctl('backup', '/dev/vdb1', `${set}/`);
      assert.equal(status, EXIT.state, stderr);
      assert.match(stderr, /not in snapshot mode/);
    });

    it('does not say of a snapshot that has ended that it stays', async () => {
      origin.failsMidway = true;
      when('transitionToIncremental', () => {
        origin.endLease();
      });
      const { status, stderr } = await elioctl('backup', '/dev/vdb1', `${set}/`);
      assert.equal(status, EXIT.failed, stderr);
      assert.match(stderr, /the COW file is full/);
      assert.doesNotMatch(stderr, /stays in snapshot mode/);
    });
  });

  it('does not destroy a failed tracker for a cache that the host refuses', async () => {
    await backUp();
    origin.error = -27;
    origin.calls.length = 0;
    const refused = await elioctl('backup', '-c', '1025', '/dev/vdb1', `${set}/`);
    assert.equal(refused.status, EXIT.usage, refused.stderr);
    assert.match(refused.stderr, /1025 MiB is more than half of the memory/);
    assert.deepEqual(origin.calls, []);
    assert.match((await backUp('-c', '1024')).reason, /snapshot 0 had failed/);
  });

  it('warns once when a block that cannot be read fails the snapshot', async () => {
    const warnings = async (): Promise<number> => {
      const { status, stderr } = await elioctl('backup', '--verify', '/dev/vdb1', `${set}/`);
      assert.equal(status, EXIT.ok, stderr);
      const warning =
        /^snapshot 0 was set up or reloaded with -i: .* fails the snapshot, and with it the backup$/gm;
      return stderr.match(warning)?.length ?? 0;
    };
    assert.equal(await warnings(), 0);
    origin.ignoreErrors = true;
    assert.equal(await warnings(), 1);
  });

  it('does not touch the target of a restore when the backup is damaged', async () => {
    await backUp();
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 4096', join(set, '000001.qcow2')]);
    const { status, stderr } = await elioctl('restore', '--yes', set, '/dev/vdc1');
    assert.notEqual(status, EXIT.ok);
    assert.match(stderr, /000001\.qcow2 is altered/);
    assert.ok(origin.target.every((byte) => byte === 0xff));
  });
});
