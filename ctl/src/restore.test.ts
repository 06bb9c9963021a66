// SPDX-License-Identifier: Apache-2.0
// The program elioctl restores backups, of both forms, to a device of an agent: what it sends, and what it says.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHUNK_SIZE } from '../../agent/src/services/chunks.js';
import { EXIT } from './errors.js';
import { Volume } from './sets/testing/volume.js';
import { runElioctl, type RunResult } from './testing/run-elioctl.js';
import { StubOrigin } from './testing/stub-origin.js';

/** More chunks than one stream takes at a time, and a last one that is shorter. */
const sizeBytes = 40 * CHUNK_SIZE + 4096;
const TARGET = '/dev/vdc1';

interface Restored {
  size_bytes: number;
  sent_bytes: number;
  zeroed_bytes: number;
  same_bytes: number | null;
}

describe('elioctl restore', function () {
  this.timeout(180_000);
  let directory = '';
  let origin: StubOrigin;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-restore-'));
    origin = await StubOrigin.start(join(directory, 'socket'), new Volume(1, sizeBytes));
  });
  afterEach(() => {
    origin.stop();
    rmSync(directory, { recursive: true });
  });

  function elioctl(...words: string[]): Promise<RunResult> {
    return runElioctl(['--socket', join(directory, 'socket'), ...words]);
  }

  async function backUp(name: string): Promise<string> {
    const path = join(directory, name);
    const { status, stderr } = await elioctl('backup', '/dev/vdb1', path);
    assert.equal(status, EXIT.ok, stderr);
    return path.replace(/\/$/, '');
  }

  async function restore(backup: string, ...words: string[]): Promise<Restored & RunResult> {
    origin.restoredBytes = 0;
    const argv = ['restore', '--yes', '--output=json', ...words, backup, TARGET];
    const result = await elioctl(...argv);
    assert.equal(result.status, EXIT.ok, result.stderr);
    assert.ok(origin.target.equals(origin.volume.content));
    return { ...(JSON.parse(result.stdout) as Restored), ...result };
  }

  for (const [form, name] of [
    ['a file', 'raw'],
    ['a set', 'set/'],
  ] as const) {
    it(`sends of ${form} only what the target does not hold, if it is told to`, async () => {
      const { volume, target } = origin;
      // The last chunk and one in the middle are zeros that the target has not.
      volume.content.fill(0, 40 * CHUNK_SIZE);
      volume.content.fill(0, 20 * CHUNK_SIZE, 21 * CHUNK_SIZE);
      const backup = await backUp(name);
      const all = await restore(backup);
      assert.deepEqual([all.same_bytes, all.sent_bytes + all.zeroed_bytes], [null, sizeBytes]);
      assert.equal(origin.restoredBytes, sizeBytes);

      const none = await restore(backup, '--only-changed');
      assert.deepEqual(
        [none.size_bytes, none.sent_bytes, none.zeroed_bytes, none.same_bytes],
        [sizeBytes, 0, 0, sizeBytes],
      );
      assert.equal(origin.restoredBytes, 0);

      for (const streams of [1, 4]) {
        for (const index of [3, 17, 20, 40]) target.writeUInt8(7, index * CHUNK_SIZE + 5);
        volume.content.copy(target, 17 * CHUNK_SIZE, 17 * CHUNK_SIZE, 18 * CHUNK_SIZE);
        const some = await restore(backup, '--only-changed', `--streams=${String(streams)}`);
        assert.deepEqual(
          [some.sent_bytes, some.zeroed_bytes, some.same_bytes],
          [CHUNK_SIZE, CHUNK_SIZE + 4096, 38 * CHUNK_SIZE],
        );
        assert.equal(origin.restoredBytes, 2 * CHUNK_SIZE + 4096);
        assert.match(
          some.stderr,
          /^1\.0 MiB of data and 1\.0 MiB of zeros were written; 38\.0 MiB/,
        );
      }
    });
  }

  it('says whether the target is unusable when that cannot be read to its end', async () => {
    const backup = await backUp('raw');
    origin.digestsUntilFailure = 0;
    const refused = async (): Promise<string> => {
      const { status, stderr } = await elioctl(
        'restore',
        '--yes',
        '--only-changed',
        backup,
        TARGET,
      );
      assert.equal(status, EXIT.failed);
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
      return stderr;
    };
    assert.match(await refused(), /cannot be read; nothing was written to \/dev\/vdc1$/m);
    assert.ok(origin.target.every((byte) => byte === 0xff));
    origin.digestsUntilFailure = 20;
    assert.match(await refused(), /cannot be read; \/dev\/vdc1 is unusable now: restore again$/m);
  });

  it('fails on a damaged backup only where the target does not hold what it should', async () => {
    const backup = await backUp('raw');
    await restore(backup);
    const file = await open(backup, 'r+');
    await file.write(Buffer.from([1, 2, 3, 4]), 0, 4, 9 * CHUNK_SIZE);
    await file.close();
    assert.equal((await restore(backup, '--only-changed')).sent_bytes, 0);
    origin.target.fill(1, 9 * CHUNK_SIZE, 9 * CHUNK_SIZE + 4096);
    const words = ['restore', '--yes', '--only-changed', backup, TARGET];
    const { status, stderr } = await elioctl(...words);
    assert.equal(status, EXIT.failed);
    assert.match(stderr, /the backup is damaged at byte 9437184: run elioctl verify; nothing was/);
  });

  it('says in a plan that only what differs would be overwritten', async () => {
    const backup = await backUp('raw');
    const words = ['restore', '--dry-run', '--only-changed', backup, TARGET];
    const { status, stdout } = await elioctl(...words);
    assert.equal(status, EXIT.ok);
    assert.match(stdout, /would overwrite what differs on \/dev\/vdc1 with .*raw/);
  });

  describe('--local', () => {
    for (const [form, name] of [
      ['a file', 'raw'],
      ['a set', 'set/'],
    ] as const) {
      it(`makes an image of ${form}, without an agent`, async () => {
        const backup = await backUp(name);
        origin.stop();
        const image = join(directory, 'image');
        const words = ['restore', '--local', backup, image];
        const plan = await elioctl(...words, '--dry-run');
        assert.match(plan.stdout, /would write .*image with .* and verify it there; not checked: /);
        assert.ok(!existsSync(image));
        const made = await elioctl(...words, '--output=json');
        assert.equal(made.status, EXIT.ok, made.stderr);
        assert.ok(readFileSync(image).equals(origin.volume.content));
        const {
          sent_bytes: sent,
          zeroed_bytes: zeroed,
          ...rest
        } = JSON.parse(made.stdout) as Restored;
        assert.equal(sent + zeroed, sizeBytes);
        assert.deepEqual(rest, {
          host: 'this host',
          device: image,
          file: backup,
          size_bytes: sizeBytes,
          same_bytes: null,
        });
      });
    }

    it('replaces a file only when it is told to', async () => {
      const backup = await backUp('raw');
      const image = join(directory, 'image');
      writeFileSync(image, 'old');
      const words = ['restore', '--local', backup, image];
      const { status, stderr } = await elioctl(...words);
      assert.equal(status, EXIT.usage);
      assert.match(stderr, /All of .*image on this host will be overwritten: add --yes/);
      assert.equal(readFileSync(image, 'utf8'), 'old');
      assert.match((await elioctl(...words, '--dry-run')).stdout, /would overwrite .*image with/);
      assert.equal((await elioctl(...words, '--yes')).status, EXIT.ok);
      assert.ok(readFileSync(image).equals(origin.volume.content));
      const backups = readdirSync(directory).filter((file) => file !== 'socket');
      assert.deepEqual(backups.sort(), ['image', 'raw', 'raw.manifest']);
    });

    it('refuses what it cannot do', async () => {
      const backup = await backUp('raw');
      const image = join(directory, 'image');
      for (const [words, message] of [
        [['--host=db1', image], /--local is for a target on this machine/],
        [['--streams=2', image], /'--local' cannot be used with option '--streams/],
        [['--only-changed', image], /--only-changed is for devices: .*image would be a file/],
        [['--yes', backup], /raw is a backup/],
        [['--yes', '/dev/null'], /neither a file nor a block device/],
      ] as const) {
        const { status, stderr } = await elioctl('restore', '--local', backup, ...words);
        assert.equal(status, EXIT.usage, stderr);
        assert.match(stderr, message);
      }
      assert.ok(!existsSync(image));
    });
  });
});
