// SPDX-License-Identifier: Apache-2.0
// The program elioctl, killed while it backs up, and run again: it goes on where it was, if that is right.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { BackupResult } from './backup/backup.js';
import { readProgress, type ProgressRecord } from './backup/progress-record.js';
import type { BackupStep } from './backup/steps.js';
import { EXIT } from './errors.js';
import { Volume } from './sets/testing/volume.js';
import { runElioctl, type RunResult } from './testing/run-elioctl.js';
import { StubOrigin } from './testing/stub-origin.js';

const MIB = 1 << 20;
const NEVER = '';

describe('a backup whose elioctl was killed', function () {
  this.timeout(120_000);
  let directory = '';
  let origin: StubOrigin;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-resume-'));
    const volume = new Volume(3, 6 * MIB + 4608);
    // Of a full one nothing is written there.
    volume.content.fill(0, 4 * MIB, 5 * MIB);
    origin = await StubOrigin.start(join(directory, 'socket'), volume);
  });
  afterEach(() => {
    origin.stop();
    rmSync(directory, { recursive: true });
  });

  /** Its progress is recorded as often as it can be. */
  function elioctl(step: BackupStep | '', ...words: string[]): Promise<RunResult> {
    const variables = { ELIO_TEST_STOP_AT: step, ELIO_TEST_PROGRESS_BYTES: '1' };
    return runElioctl(['--socket', join(directory, 'socket'), ...words], variables);
  }

  for (const form of ['raw', 'set'] as const) {
    describe(form === 'raw' ? 'to a raw file' : 'to a set', () => {
      let place = '';
      /** Of the full, or of the increment. */
      let progressFile = '';
      beforeEach(() => {
        place = join(directory, form === 'raw' ? 'x.img' : 'set/');
        progressFile =
          form === 'raw' ? `${place}.progress` : join(place, '000001.progress.partial');
      });

      async function killed(step: BackupStep, ...words: string[]): Promise<void> {
        const { status, stderr } = await elioctl(step, 'backup', ...words, '/dev/vdb1', place);
        assert.equal(status, 'SIGKILL', `${step}: ${stderr}`);
      }

      async function backUp(...words: string[]): Promise<BackupResult & { stderr: string }> {
        const options = ['--output=json', ...words];
        origin.calls.length = 0;
        const { status, stdout, stderr } = await elioctl(
          NEVER,
          'backup',
          ...options,
          '/dev/vdb1',
          place,
        );
        assert.equal(status, EXIT.ok, stderr);
        return { ...(JSON.parse(stdout) as BackupResult), stderr };
      }

      /** A backup that was not killed, and changes of which the next one will tell. */
      async function backUpAndChange(): Promise<void> {
        await backUp();
        if (form === 'set') progressFile = join(place, '000002.progress.partial');
        origin.oldestKnown = 1n;
        origin.volume.change(40);
        origin.reads.length = 0;
      }

      async function record(): Promise<ProgressRecord> {
        const found = await readProgress(progressFile);
        assert.ok(found, progressFile);
        return found;
      }

      function content(id: number): Buffer {
        if (form === 'raw') return readFileSync(place);
        const raw = join(directory, 'raw');
        const image = join(place, `00000${String(id)}.qcow2`);
        execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw]);
        return readFileSync(raw);
      }

      /** What the volume has now, byte for byte, and its checksums are right; nothing else is left. */
      async function assertIsVolume(id: number): Promise<void> {
        assert.ok(content(id).equals(origin.volume.content));
        const words = form === 'raw' ? ['verify'] : ['backups', 'check'];
        const { status, stdout, stderr } = await elioctl(NEVER, ...words, place);
        assert.equal(status, EXIT.ok, stdout + stderr);
        const names = readdirSync(form === 'raw' ? directory : place).filter((name) =>
          /partial|journal|progress|next/.test(name),
        );
        assert.deepEqual(names, []);
      }

      /** It went on, and nothing before that place was sent again. */
      function assertWentOn(result: BackupResult & { stderr: string }, offset: number): void {
        assert.ok(offset > 0);
        assert.equal(result.resumed_at_bytes, offset);
        assert.match(result.reason, /that was interrupted went on at byte \d+/);
        assert.match(result.stderr, new RegExp(`goes on at byte ${String(offset)} `));
        const last = origin.reads.at(-1);
        assert.equal(last?.fromBytes, offset);
        assert.equal(result.sent_bytes, last.dataBytes);
        const [first] = origin.reads;
        assert.ok(first && last.dataBytes < first.dataBytes);
        if (form === 'set') {
          const manifest = JSON.parse(
            readFileSync(result.file.replace('.qcow2', '.json'), 'utf8'),
          ) as { data_bytes: number; held_bytes: number };
          assert.equal(manifest.data_bytes, first.dataBytes);
          assert.equal(manifest.held_bytes, first.heldBytes);
        }
        assert.ok(origin.isIncremental);
        // While what was there is proven, and then until the backup is complete.
        const held = ['renewLease', 'renewLease'];
        assert.deepEqual(origin.calls, [...held, 'deleteOldCowFile', 'transitionToIncremental']);
      }

      async function assertAnew(why: RegExp, ...words: string[]): Promise<BackupResult> {
        origin.reads.length = 0;
        const result = await backUp(...words);
        assert.equal(result.resumed_at_bytes, null);
        assert.match(result.reason, why);
        assert.match(result.stderr, why);
        assert.equal(origin.reads.at(-1)?.fromBytes, 0);
        return result;
      }

      for (const kind of ['full', 'incremental'] as const) {
        describe(kind, () => {
          const id = kind === 'full' ? 1 : 2;
          beforeEach(async () => {
            if (kind === 'incremental') await backUpAndChange();
          });

          for (const step of ['half-streamed', 'progress-recorded'] as const) {
            it(`goes on after an end at "${step}"`, async () => {
              await killed(step);
              const { offset_bytes: offset } = await record();
              const result = await backUp();
              assertWentOn(result, offset);
              assert.equal(result.type, kind);
              assert.equal(result.cookie.seq_id, id);
              assert.equal(result.id, form === 'raw' ? null : id);
              await assertIsVolume(id);
            });
          }

          it('goes on again when it is killed again, wherever', async () => {
            await killed('half-streamed');
            const { offset_bytes: first } = await record();
            for (const step of ['unfinished-proven', 'unfinished-cut', 'gone-on'] as const) {
              await killed(step);
              assert.equal((await record()).offset_bytes, first);
            }
            await killed('half-streamed');
            const { offset_bytes: second } = await record();
            assert.ok(second > first);
            assertWentOn(await backUp(), second);
            await assertIsVolume(id);
          });

          it('cuts off what came behind the record', async () => {
            await killed('half-streamed');
            const { offset_bytes: offset } = await record();
            await spoilBehind(offset);
            assertWentOn(await backUp(), offset);
            await assertIsVolume(id);
          });

          it('begins anew when what is there is damaged', async () => {
            await killed('half-streamed');
            const { offset_bytes: offset } = await record();
            await spoilBefore(offset);
            await assertAnew(/could not go on: .* is damaged|could not go on: .* is altered/);
            await assertIsVolume(id);
          });
        });
      }

      /** A byte of each unfinished file, in a place that the record proves. */
      async function spoilBefore(offset: number): Promise<void> {
        const { proof } = await record();
        if (proof.of === 'journal') await flip(`${place}.journal`, proof.bytes - 3);
        else if (proof.of === 'file') await flip(`${place}.partial`, offset - 4096);
        else {
          const image = progressFile.replace('.progress', '.qcow2');
          await qemuWrite(image, '4096 4096');
        }
      }

      async function spoilBehind(offset: number): Promise<void> {
        const { proof } = await record();
        if (proof.of === 'journal') await write(`${place}.journal`, proof.bytes);
        else if (proof.of === 'file') await write(`${place}.partial`, offset);
        else {
          const image = progressFile.replace('.progress', '.qcow2');
          const where = `${String(offset)} ${String(origin.volume.sizeBytes - offset)}`;
          await qemuWrite(image, where);
          await write(progressFile.replace('.progress', '.sums'), 8 + 68 * proof.chunks);
        }
      }

      /** The server of the run that was killed may be there for a moment, and have the file locked. */
      async function qemuWrite(image: string, where: string): Promise<void> {
        for (let attempt = 1; ; attempt += 1) {
          const args = ['-f', 'qcow2', '-c', `write -P 7 ${where}`, image];
          const { status, stderr } = spawnSync('qemu-io', args, { encoding: 'utf8' });
          if (status === 0) return;
          assert.ok(stderr.includes('lock') && attempt < 100, stderr);
          await delay(100);
        }
      }

      async function flip(path: string, at: number): Promise<void> {
        const file = await open(path, 'r+');
        const byte = Buffer.alloc(1);
        await file.read(byte, 0, 1, at);
        byte.writeUInt8(byte.readUInt8() ^ 1);
        await file.write(byte, 0, 1, at);
        await file.close();
      }

      /** Garbage. */
      async function write(path: string, at: number): Promise<void> {
        const file = await open(path, 'r+');
        const { sizeBytes } = origin.volume;
        await file.write(Buffer.alloc(sizeBytes, 0x55), 0, sizeBytes, at);
        await file.close();
      }

      it('goes on over blocks that the filesystem does not use', async () => {
        for (let block = 20; block < 60; block += 1) origin.volume.unused.add(block);
        for (let block = 300; block < 900; block += 1) origin.volume.unused.add(block);
        await killed('half-streamed');
        const { offset_bytes: offset } = await record();
        assertWentOn(await backUp(), offset);
        const { skipped } = JSON.parse(
          readFileSync(form === 'raw' ? `${place}.manifest` : join(place, '000001.json'), 'utf8'),
        ) as { skipped: unknown };
        assert.deepEqual(skipped, [
          [20, 40],
          [300, 600],
        ]);
        origin.volume.change(40);
        origin.reads.length = 0;
        if (form === 'set') progressFile = join(place, '000002.progress.partial');
        await killed('half-streamed');
        const { offset_bytes: second } = await record();
        assertWentOn(await backUp(), second);
        assert.equal((await elioctl(NEVER, 'verify', place)).status, EXIT.ok);
      });

      describe('begins anew', () => {
        beforeEach(async () => {
          await backUpAndChange();
          await killed('half-streamed');
          await record();
        });
        afterEach(async () => {
          await assertIsVolume(2);
          assert.ok(origin.isIncremental);
        });

        it('when the lease has ended', async () => {
          origin.endLease();
          const { type, cookie } = await assertAnew(/its image is gone/);
          assert.deepEqual([type, cookie.seq_id], ['incremental', 3]);
        });

        it('when the snapshot has failed', async () => {
          origin.error = -28;
          await assertAnew(/snapshot 0 has failed \(-28\)/);
        });

        it('when the host was reverted', async () => {
          origin.nonce = 'e'.repeat(32);
          const { type } = await assertAnew(/snapshot 0 is of another instant/);
          assert.equal(type, 'full');
        });

        it('when --all is given now', async () => {
          await assertAnew(/only one of the two runs has --all/, '--all');
        });

        it('when --full is given now', async () => {
          const { type } = await assertAnew(/only one of the two runs has --full/, '--full');
          assert.equal(type, 'full');
        });

        it('when --full is given now, as soon as the image is free', async () => {
          origin.busyCalls = 2;
          await assertAnew(/only one of the two runs has --full/, '--full');
          await killed('half-streamed');
          origin.busyCalls = 3;
          const words = ['backup', '--full', '/dev/vdb1', place];
          const { status, stderr } = await elioctl(NEVER, ...words);
          assert.equal(status, EXIT.busy, stderr);
          assert.match(stderr, /^elioctl: .*image in use/m);
          await backUp('--full');
        });

        it('when the agent refuses the rest', async () => {
          origin.refusal = 'COOKIE_MISMATCH';
          await assertAnew(/could not go on: .*the stub refuses/);
        });

        it('when its record is damaged', async () => {
          const text = readFileSync(progressFile, 'utf8');
          const further = (_: string, at: string): string =>
            `"offset_bytes":${String(Number(at) + MIB)}`;
          writeFileSync(progressFile, text.replace(/"offset_bytes":(\d+)/, further));
          const { resumed_at_bytes: at, cookie } = await backUp();
          assert.deepEqual([at, cookie.seq_id], [null, 3]);
        });
      });

      it('is left alone by who only reads', async () => {
        await backUpAndChange();
        await killed('half-streamed');
        const { offset_bytes: offset } = await record();
        const readers =
          form === 'raw'
            ? [['verify', place]]
            : [
                ['verify', place],
                ['backups', 'list', place],
                ['backups', 'check', place],
                ['backups', 'prune', '--keep-last=1', '--yes', place],
              ];
        for (const words of [...readers, ['restore', '--yes', place, '/dev/vdc1']]) {
          const { status, stdout, stderr } = await elioctl(NEVER, ...words);
          assert.equal(status, EXIT.ok, `${words.join(' ')}: ${stdout}${stderr}`);
          assert.doesNotMatch(stdout + stderr, /wrong|has no manifest/);
          assert.ok(existsSync(progressFile), words.join(' '));
        }
        const atOnce = await Promise.all([1, 2, 3].map(() => elioctl(NEVER, 'verify', place)));
        for (const { status, stderr } of atOnce) assert.equal(status, EXIT.ok, stderr);
        assertWentOn(await backUp(), offset);
        await assertIsVolume(2);
      });

      // Before the transfer goes on, and when it has.
      for (const step of ['unfinished-cut', 'gone-on']) {
        it(`is thrown away when the user interrupts the run that goes on, at "${step}"`, async () => {
          await backUpAndChange();
          const former = content(1);
          await killed('half-streamed');
          const words = ['--socket', join(directory, 'socket'), 'backup', '/dev/vdb1', place];
          const interrupt = { ELIO_TEST_STOP_AT: step, ELIO_TEST_STOP_BY: 'SIGINT' };
          const { status, stderr } = await runElioctl(words, interrupt);
          assert.equal(status, EXIT.interrupted, stderr);
          assert.ok(!existsSync(progressFile));
          assert.ok(origin.isIncremental);
          assert.ok(content(1).equals(former));
          const next = await backUp();
          assert.equal(next.resumed_at_bytes, null);
          assert.equal(next.type, 'incremental', next.reason);
          await assertIsVolume(2);
        });
      }

      it('is told of by --dry-run', async () => {
        await killed('half-streamed');
        const plan = async (...words: string[]): Promise<string> => {
          const argv = ['backup', '--dry-run', ...words, '/dev/vdb1', place];
          const { status, stdout, stderr } = await elioctl(NEVER, ...argv);
          assert.equal(status, EXIT.ok, stderr);
          return stdout;
        };
        assert.match(
          await plan(),
          /would go on at \d\S* \wiB with the interrupted transfer of snapshot 1 of \/dev\/vdb1/,
        );
        assert.match(await plan('--full'), /next snapshot .* in full \(asked for by --full\)/);
        assert.ok(existsSync(progressFile));
      });
    });
  }
});
