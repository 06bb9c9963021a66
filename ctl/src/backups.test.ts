// SPDX-License-Identifier: Apache-2.0
// The program `elioctl backups`, on sets that are there.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from './errors.js';
import { BackupSet } from './sets/set.js';
import { SetTarget } from './sets/set-target.js';
import { cookieOf, ORIGIN, Volume } from './sets/testing/volume.js';
import { runElioctl } from './testing/run-elioctl.js';

describe('elioctl backups', function () {
  this.timeout(60_000);
  let directory = '';
  let set = '';

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-backups-'));
    set = join(directory, 'set');
    const volume = new Volume(1, 3 << 20);
    for (let id = 1; id <= 3; id += 1) {
      const target = await SetTarget.open(set, false);
      await target.checkMayWrite(ORIGIN);
      if (id > 1) {
        volume.change(4);
        await target.writeIncrement(volume.increment(), ORIGIN, cookieOf(id));
      } else await target.writeFull(volume.full(), volume.sizeBytes, ORIGIN, cookieOf(id));
      await target.close();
    }
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  /** It fails with one line. */
  async function refused(status: number, message: RegExp, ...words: string[]): Promise<void> {
    const result = await runElioctl(words);
    assert.equal(result.status, status, result.stderr);
    assert.match(result.stderr, message);
    assert.equal(result.stderr.trimEnd().split('\n').length, 1, result.stderr);
  }

  it('lists a set and shows one of it', async () => {
    const { stdout } = await runElioctl(['backups', 'list', set]);
    const rows = stdout.trimEnd().split('\n');
    assert.equal(rows.length, 4);
    assert.match(rows[0] ?? '', /^ID +TYPE +PARENT +CREATED +HOST +DEVICE +VOLUME +ON DISK$/);
    assert.match(rows[2] ?? '', /^2 +incremental +1 +\S+Z +db1 +\/dev\/vdb1 +3\.0 MiB/);
    const list = await runElioctl(['backups', 'list', '--output', 'json', set]);
    const entries = JSON.parse(list.stdout) as Record<string, unknown>[];
    assert.deepEqual(
      entries.map(({ id, type, parent }) => [id, type, parent]),
      [
        [1, 'full', null],
        [2, 'incremental', 1],
        [3, 'incremental', 2],
      ],
    );
    const show = await runElioctl(['backups', 'show', '--output', 'json', `${set}@2`]);
    const manifest = JSON.parse(show.stdout) as Record<string, unknown>;
    assert.deepEqual(manifest['cookie'], cookieOf(2));
    assert.deepEqual(manifest['chain'], [1, 2]);
  });

  it('checks a set, or what one backup is made of', async () => {
    assert.equal((await runElioctl(['backups', 'check', set])).status, EXIT.ok);
    assert.equal((await runElioctl(['verify', set])).status, EXIT.ok);
    truncateSync(join(set, '000003.qcow2'), 1000);
    await runElioctl(['backups', 'check', `${set}@2`]).then(({ status }) => {
      assert.equal(status, EXIT.ok);
    });
    const { status, stdout, stderr } = await runElioctl(['backups', 'check', '--output=json', set]);
    assert.equal(status, EXIT.failed);
    assert.match(stderr, /1 of 3 backups are damaged: 000003\.qcow2 is altered/);
    const verdicts = JSON.parse(stdout) as { verdict: string }[];
    assert.deepEqual(
      verdicts.map(({ verdict }) => verdict),
      ['ok', 'ok', 'wrong'],
    );
    await refused(EXIT.state, /000003\.qcow2 is altered/, 'verify', set);
    assert.equal((await runElioctl(['verify', `${set}@2`])).status, EXIT.ok);
  });

  it('prunes when it is told to, and says before what would go', async () => {
    const prune = ['backups', 'prune', '--keep-last', '2', set];
    await refused(EXIT.usage, /no way back to the state of backup 1.*--yes/, ...prune);
    const plan = await runElioctl([...prune, '--dry-run']);
    assert.equal(plan.stdout, `would be done in ${set}: backup 1 merged into backup 2\n`);
    const { stdout } = await runElioctl([...prune, '--yes', '--output', 'json']);
    assert.deepEqual(JSON.parse(stdout), {
      directory: set,
      kept: [2, 3],
      gone: [1],
      merged: [[1, 2]],
    });
    assert.equal((await runElioctl(['backups', 'check', set])).status, EXIT.ok);
    await refused(EXIT.usage, /give --keep-last/, 'backups', 'prune', set);
  });

  it('merges what it is told to', async () => {
    await refused(EXIT.usage, /which backup is meant/, 'backups', 'merge', '--yes', set);
    await refused(EXIT.state, /no backup builds on it/, 'backups', 'merge', '--yes', `${set}@3`);
    await refused(EXIT.notFound, /no backup 9/, 'backups', 'merge', '--yes', `${set}@9`);
    const words = ['backups', 'merge', '--yes', '--into', 'predecessor', `${set}@3`];
    const { stdout } = await runElioctl(words);
    assert.equal(stdout, `${set}: backup 2 merged into backup 3\n`);
    assert.equal((await runElioctl(['backups', 'check', set])).status, EXIT.ok);
  });

  it('says what it does not find, and what is in use', async () => {
    await refused(EXIT.notFound, /no such directory/, 'backups', 'list', join(directory, 'absent'));
    mkdirSync(join(directory, 'empty'));
    await refused(EXIT.notFound, /no complete backup/, 'verify', join(directory, 'empty'));
    const held = await BackupSet.open(set, 'write');
    await refused(EXIT.busy, /in use by another elioctl/, 'backups', 'check', set);
    await refused(EXIT.busy, /in use/, 'backups', 'prune', '--yes', '--keep-last=1', set);
    assert.equal((await runElioctl(['backups', 'list', set])).status, EXIT.ok);
    await held.close();
    assert.ok(!readdirSync(set).includes('.lock'));
  });

  it('names the package that is missing', async () => {
    const { status, stderr } = await runElioctl(['backups', 'check', set], { PATH: '/nowhere' });
    assert.equal(status, EXIT.failed);
    assert.match(stderr, /^elioctl: the program qemu-nbd is missing.*qemu-utils\n$/);
  });

  it('tells what to type instead of mounting', async () => {
    const { status, stdout } = await runElioctl(['backups', 'mount', '--dry-run', set, directory]);
    assert.equal(status, EXIT.ok);
    assert.match(stdout, /^qemu-nbd --read-only .*000003\.qcow2$/m);
  });
});
