// SPDX-License-Identifier: Apache-2.0
// The program elioctl and the backups of several agents.
import assert from 'node:assert/strict';
import { execFile, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockDevice } from '../../proto/gen/elio/v1/host.js';
import { BackupLock } from './backup/lock.js';
import { makeCertificates } from './certificates.js';
import { EXIT } from './errors.js';
import { Volume } from './sets/testing/volume.js';
import { deadPort } from './testing/dead-port.js';
import { elioctlMain } from './testing/run-elioctl.js';
import { StubOrigin } from './testing/stub-origin.js';

const DEVICE = 'PARTUUID=1';

interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

interface Row {
  host: string;
  device: string | null;
  result: string;
  directory: string | null;
  block_device: string | null;
  type: string | null;
  reason: string | null;
  id: number | null;
  parent: number | null;
  sent_bytes: number | null;
  seconds: number;
  exit_status: number;
  message: string | null;
  plan?: string;
}

interface Report {
  started: string;
  finished: string;
  interrupted: boolean;
  counts: Record<string, number>;
  sent_bytes: number;
  backups: Row[];
}

describe('elioctl fleet backup', function () {
  this.timeout(60_000);
  let directory = '';
  let dest = '';
  let origins: StubOrigin[] = [];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-fleet-backup-'));
    await makeCertificates(join(directory, 'tls'), ['db1', 'db2'], 1);
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  beforeEach(async () => {
    dest = mkdtempSync(join(directory, 'dest-'));
    const start = (name: string, seed: number): Promise<StubOrigin> =>
      StubOrigin.startTls(name, join(directory, 'tls'), new Volume(seed, (3 << 20) + 4096));
    origins = [await start('db1', 1), await start('db2', 2)];
  });
  afterEach(() => {
    for (const origin of origins) origin.stop();
  });

  function origin(index: number): StubOrigin {
    const found = origins[index];
    assert.ok(found);
    return found;
  }

  /** An inventory with lines about each host beside how it is reached; db3 is down. */
  async function inventory(settings: Record<string, string> = { db1: '', db2: '' }): Promise<void> {
    const dead = await deadPort();
    const ports: Record<string, number> = { db1: origin(0).port, db2: origin(1).port, db3: dead };
    const lines = Object.entries(settings).map(
      ([name, more]) =>
        `  - { name: ${name}, address: 127.0.0.1, port: ${String(ports[name])}${more} }`,
    );
    const tls = ['ca: tls/ca.crt', 'cert: tls/admin.crt', 'key: tls/admin.key'];
    writeFileSync(join(directory, 'inventory.yaml'), [...tls, 'hosts:', ...lines].join('\n'));
  }

  function start(...words: string[]): { child: ChildProcess; ended: Promise<Result> } {
    const argv = [elioctlMain, '--inventory', join(directory, 'inventory.yaml'), 'fleet', 'backup'];
    let end: (result: Result) => void;
    const ended = new Promise<Result>((resolve) => (end = resolve));
    const all = [...argv, '--dest', dest, ...words];
    const child = execFile(process.execPath, all, (error, stdout, stderr) => {
      end({ status: error ? Number(error.code) : 0, stdout, stderr });
    });
    // As from cron.
    child.stdin?.end();
    return { child, ended };
  }

  function fleetBackup(...words: string[]): Promise<Result> {
    return start(...words).ended;
  }

  async function rows(status: number, ...words: string[]): Promise<Row[]> {
    const result = await fleetBackup('--output=json', ...words);
    assert.equal(result.status, status, result.stderr);
    return JSON.parse(result.stdout) as Row[];
  }

  function reports(): Report[] {
    const names = readdirSync(join(dest, 'reports')).sort();
    for (const name of names) assert.match(name, /^2\d{3}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z\.json$/);
    return names.map(
      (name) => JSON.parse(readFileSync(join(dest, 'reports', name), 'utf8')) as Report,
    );
  }

  it('backs up all hosts in full, then what has changed, each into its own set', async () => {
    await inventory();
    const first = await fleetBackup();
    assert.equal(first.status, EXIT.ok, first.stderr);
    assert.equal(first.stderr, '', 'a run that is well says nothing but its table');
    const lines = first.stdout.trimEnd().split('\n');
    assert.match(lines[0] ?? '', /^HOST +DEVICE +RESULT +TYPE +SENT +SECONDS +ID +REASON$/);
    assert.match(
      lines[1] ?? '',
      /^db1 +PARTUUID=1 +ok +full +\S+ MiB +\d+\.\d +1 +this is the first/,
    );
    assert.equal(lines.length, 3);
    for (const { volume } of origins) volume.change(5);
    const second = await rows(EXIT.ok);
    assert.deepEqual(
      second.map(({ host, device, result, type, id, parent }) => [
        host,
        device,
        result,
        type,
        id,
        parent,
      ]),
      [
        ['db1', DEVICE, 'ok', 'incremental', 2, 1],
        ['db2', DEVICE, 'ok', 'incremental', 2, 1],
      ],
    );
    for (const [i, { directory: set, block_device }] of second.entries()) {
      assert.equal(set, join(dest, `db${String(i + 1)}`, DEVICE));
      assert.equal(block_device, '/dev/vdb1');
      assert.ok(existsSync(join(set, '000002.qcow2')));
      assert.ok(origin(i).isIncremental);
    }
    assert.ok(!existsSync(join(dest, '.lock')));
    const [full] = await rows(EXIT.ok, '--full', '--verify', '--bandwidth', '50M', '-f', '8');
    assert.deepEqual([full?.type, full?.reason], ['full', 'asked for by --full']);
  });

  it('leaves the others alone when a host, a stream or a device fails, and reports each', async () => {
    await inventory({ db3: '', db1: '', db2: '' });
    await rows(EXIT.partial);
    for (const { volume } of origins) volume.change(5);
    origin(0).failsMidway = true;
    origin(1).moreDevices.push(
      BlockDevice.fromPartial({ path: '/dev/vde', mountPoints: ['/mnt'], sizeBytes: 1n << 20n }),
    );
    const metrics = join(directory, 'elio.prom');
    const found = await fleetBackup('--metrics', metrics);
    assert.equal(found.status, EXIT.partial);
    assert.match(found.stdout, /^db3 +- +unreachable .*cannot reach the agent on db3/m);
    assert.match(
      found.stdout,
      /^db1 +PARTUUID=1 +failed .*db1: PARTUUID=1: the COW file is full$/m,
    );
    const errors = found.stderr.trimEnd().split('\n');
    assert.equal(errors[0], 'elioctl: db1: PARTUUID=1: the COW file is full');
    assert.equal(errors[1], 'elioctl: db2: /dev/vde: no room for the COW file');
    assert.match(errors[2] ?? '', /^elioctl: cannot reach the agent on db3/);
    assert.equal(errors[3], 'elioctl: of 4 backups 2 failed, 1 could not be reached');

    const report = reports()[1];
    assert.ok(report);
    assert.deepEqual(report.counts, { ok: 1, failed: 2, unreachable: 1, interrupted: 0 });
    assert.equal(report.interrupted, false);
    assert.ok(report.started < report.finished);
    const [down, failed, ok, refused] = report.backups;
    assert.deepEqual(
      [down?.host, down?.device, down?.exit_status],
      ['db3', null, EXIT.unreachable],
    );
    assert.deepEqual([failed?.result, failed?.type, failed?.sent_bytes], ['failed', null, null]);
    assert.deepEqual([ok?.type, ok?.message, ok?.exit_status], ['incremental', null, 0]);
    assert.equal(ok?.sent_bytes, report.sent_bytes);
    assert.equal(refused?.exit_status, EXIT.state);

    const text = readFileSync(metrics, 'utf8');
    const value = (name: string, host: string, device: string): number => {
      const line = `${name}{host="${host}",device="${device}"} `;
      const [, after] = text.split(`\n${line}`);
      assert.ok(after !== undefined, `${line} in ${text}`);
      return Number(after.split('\n')[0]);
    };
    assert.equal(statSync(metrics).mode & 0o777, 0o644);
    assert.equal(value('elio_backup_failed', 'db1', DEVICE), 1);
    assert.equal(value('elio_backup_failed', 'db2', DEVICE), 0);
    assert.equal(value('elio_backup_failed', 'db2', '/dev/vde'), 1);
    assert.equal(value('elio_backup_failed', 'db3', ''), 1);
    assert.equal(value('elio_backup_sent_bytes', 'db2', DEVICE), ok.sent_bytes);
    assert.equal(value('elio_backup_seconds', 'db2', DEVICE), ok.seconds);
    const manifest = readFileSync(join(dest, 'db1', DEVICE, '000001.json'), 'utf8');
    const created = Date.parse((JSON.parse(manifest) as { created: string }).created) / 1000;
    assert.equal(value('elio_backup_last_success_seconds', 'db1', DEVICE), created);
    assert.ok(value('elio_backup_last_success_seconds', 'db2', DEVICE) > created);
    assert.equal(value('elio_backup_last_success_seconds', 'db2', '/dev/vde'), 0);
    assert.ok(!text.includes('elio_backup_sent_bytes{host="db1"'));
    assert.equal(text.split('\nelio_backup_last_success_seconds{').length - 1, 3, text);

    // What failed has harmed nothing: its next backup builds on the last good one, as far as the agent knows what changed.
    origin(0).failsMidway = false;
    const [, again] = await rows(EXIT.partial);
    assert.deepEqual([again?.result, again?.id], ['ok', 2]);
    assert.ok(origin(0).isIncremental);
  });

  it('names the devices of an unreachable host, as far as it was told them', async () => {
    await inventory({ db3: ', devices: [/dev/vda, /dev/vdb]' });
    const found = await rows(EXIT.unreachable);
    assert.deepEqual(
      found.map(({ device, result }) => [device, result]),
      [
        ['/dev/vda', 'unreachable'],
        ['/dev/vdb', 'unreachable'],
      ],
    );
  });

  it('takes the devices of the inventory, or those of the command line', async () => {
    origin(0).aliases = ['/dev/disk/by-id/x', '/dev/mapper/vg-root'];
    await inventory({ db1: '', db2: ', devices: [/dev/vdb1, /dev/vdz]' });
    const listed = await rows(EXIT.partial);
    assert.deepEqual(
      listed.map(({ device, result, exit_status }) => [device, result, exit_status]),
      [
        ['/dev/mapper/vg-root', 'ok', EXIT.ok],
        ['/dev/vdb1', 'ok', EXIT.ok],
        ['/dev/vdz', 'failed', EXIT.notFound],
      ],
    );
    assert.deepEqual(readdirSync(join(dest, 'db1')), ['dev+mapper+vg-root']);
    assert.deepEqual(readdirSync(join(dest, 'db2')), ['dev+vdb1']);
    const given = await rows(EXIT.ok, '--device', '/dev/disk/by-id/x', '--host', 'db1');
    assert.deepEqual(
      given.map(({ device }) => device),
      ['/dev/disk/by-id/x'],
    );
  });

  it('refuses to back up one device twice, and says which', async () => {
    await inventory({ db1: ', devices: [/dev/vdb1, PARTUUID=1]', db2: '' });
    const [, twice] = await rows(EXIT.partial);
    const message =
      'db1: PARTUUID=1 is the same device as /dev/vdb1 of db1 (/dev/vdb1): name it once';
    assert.deepEqual([twice?.result, twice?.message], ['failed', message]);
    assert.deepEqual(readdirSync(join(dest, 'db1')), ['dev+vdb1']);

    await inventory();
    origin(1).bootId = origin(0).bootId;
    const [ok, other] = await rows(EXIT.partial);
    assert.equal(ok?.result, 'ok');
    assert.match(other?.message ?? '', /^db2: PARTUUID=1 is the same device as PARTUUID=1 of db1/);

    const typed = await fleetBackup('--device', '/dev/vdb1,/dev/vdb1');
    assert.equal(typed.status, EXIT.usage);
    assert.match(typed.stderr, /^elioctl: --device \/dev\/vdb1 is there twice\n$/);
  });

  it('is told that another run is under way, and does nothing', async () => {
    await inventory({ db1: '' });
    const lock = await BackupLock.acquire(dest, 'exclusive', join(dest, '.lock'));
    const { status, stdout, stderr } = await fleetBackup();
    await lock.release();
    assert.equal(status, EXIT.busy);
    assert.equal(stdout, '');
    assert.equal(stderr, `elioctl: ${dest} is in use by another elioctl: wait for it to end\n`);
    assert.deepEqual(readdirSync(dest), []);

    const set = join(dest, 'db1', DEVICE);
    mkdirSync(set, { recursive: true });
    const ofSet = await BackupLock.acquire(set, 'exclusive', join(set, '.lock'));
    const [row] = await rows(EXIT.busy);
    await ofSet.release();
    assert.match(row?.message ?? '', /is in use by another elioctl/);
  });

  it('ends in order when it is interrupted, which the limit of the bandwidth gives time for', async () => {
    await inventory();
    const startedMs = Date.now();
    await rows(EXIT.ok);
    const unlimitedMs = Date.now() - startedMs;
    const words = ['--full', '--parallel', '1', '--bandwidth', '64K', '--output=json'];
    const { child, ended } = start(...words);
    const set = join(dest, 'db1', DEVICE);
    while (!existsSync(join(set, '000002.qcow2.partial'))) await sleep(20);
    // Without the limit it would be over by then; with it, it takes half a minute.
    await sleep(Math.min(unlimitedMs, 6000));
    child.kill('SIGINT');
    const { status, stdout } = await ended;
    assert.equal(status, EXIT.interrupted);
    const found = JSON.parse(stdout) as Row[];
    assert.deepEqual(
      found.map(({ result }) => result),
      ['interrupted', 'interrupted'],
    );
    const report = reports()[1];
    assert.equal(report?.interrupted, true);
    assert.equal(report.counts['interrupted'], 2);
    for (const host of ['db1', 'db2']) {
      const files = readdirSync(join(dest, host, DEVICE));
      assert.deepEqual(files.sort(), ['000001.json', '000001.qcow2', '000001.sums']);
    }
    assert.ok(origin(0).isIncremental);
  });

  it('keeps as many reports as it is told to', async () => {
    await inventory({ db1: '' });
    for (const keep of ['9', '9', '2']) await rows(EXIT.ok, '--keep-reports', keep);
    const ids = reports().map(({ backups }) => backups[0]?.id);
    assert.deepEqual(ids, [2, 3]);
  });

  it('says what it would do, and makes nothing', async () => {
    await inventory({ db1: '', db3: '' });
    const [would, down] = await rows(EXIT.partial, '--dry-run');
    assert.match(would?.plan ?? '', /^db1: would start tracking .*db1\/PARTUUID=1 .* in full/);
    assert.equal(down?.result, 'unreachable');
    assert.deepEqual(readdirSync(dest), []);
  });

  it('refuses what cannot be right before it asks any host', async () => {
    await inventory({ db1: '' });
    const cases: [number, RegExp, ...string[]][] = [
      [
        EXIT.notFound,
        /--dest .*missing: there is no such directory/,
        '--dest',
        join(dest, 'missing'),
      ],
      [
        EXIT.notFound,
        /--metrics: there is no directory/,
        '--metrics',
        join(dest, 'missing', 'm.prom'),
      ],
      [EXIT.usage, /--device vdb1: .*absolute path/, '--device', 'vdb1'],
      [EXIT.usage, /at least 64K/, '--bandwidth', '1K'],
      [EXIT.usage, /decimal number of MiB/, '--bandwidth', 'fast'],
    ];
    for (const [status, message, ...words] of cases) {
      const refused = await fleetBackup(...words);
      assert.equal(refused.status, status, refused.stderr);
      assert.match(refused.stderr, message);
    }
    const nobody = await new Promise<string>((resolve) => {
      execFile(
        process.execPath,
        [elioctlMain, 'fleet', 'backup', '--dest', dest],
        (_, __, stderr) => {
          resolve(stderr);
        },
      );
    });
    assert.match(nobody, /name the hosts with --inventory FILE, or with --host/);
    assert.deepEqual(readdirSync(dest), []);
  });
});
