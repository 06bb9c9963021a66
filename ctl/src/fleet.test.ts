// SPDX-License-Identifier: Apache-2.0
// The program elioctl against several agents.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TrackerState } from '../../proto/gen/elio/v1/types.js';
import { makeCertificates } from './certificates.js';
import { EXIT } from './errors.js';
import { deadPort } from './testing/dead-port.js';
import { elioctlMain } from './testing/run-elioctl.js';
import { STUB_MEMORY_BYTES, StubAgent, stubSnapshot } from './testing/stub-agent.js';

interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

function run(program: string, args: readonly string[], input = ''): Promise<Result> {
  return new Promise((resolve) => {
    // Not what the environment of this test thinks of colours: a CI has none.
    const unset = { CI: undefined, NO_COLOR: undefined, FORCE_COLOR: undefined };
    const env = { ...process.env, ...unset, TERM: 'xterm' };
    const child = execFile(program, args, { env }, (error, stdout, stderr) => {
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
    });
    child.stdin?.end(input);
  });
}

describe('elioctl with a fleet', function () {
  this.timeout(60_000);
  let directory = '';
  let options: string[] = [];
  let agents: StubAgent[] = [];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-fleet-'));
    await makeCertificates(join(directory, 'tls'), ['db1', 'db2', 'db3'], 1);
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  beforeEach(async () => {
    const certificates = join(directory, 'tls');
    agents = await Promise.all([
      StubAgent.start('db1', certificates, [stubSnapshot(0)]),
      StubAgent.start('db2', certificates, [stubSnapshot(0)]),
      StubAgent.start('db3', certificates, []),
    ]);
    const host = (name: string, port: number): string =>
      `    - { name: ${name}, address: 127.0.0.1, port: ${String(port)} }`;
    const lines = [
      'ca: tls/ca.crt',
      'cert: tls/admin.crt',
      'key: tls/admin.key',
      'groups:',
      '  up:',
      '    hosts:',
      ...agents.map(({ name, port }) => host(name, port)),
      '  same: { hosts: [db1, db2] }',
      '  down:',
      '    hosts:',
      host('db4', await deadPort()),
    ];
    const inventory = join(directory, 'inventory.yaml');
    writeFileSync(inventory, lines.join('\n'));
    options = [elioctlMain, '--inventory', inventory];
  });
  afterEach(() => {
    for (const agent of agents) agent.stop();
  });

  function elioctl(...words: readonly string[]): Promise<Result> {
    return run(process.execPath, [...options, ...words]);
  }

  /** On a terminal, where `input` is typed. */
  function onTerminal(input: string, ...words: readonly string[]): Promise<Result> {
    const command = [process.execPath, ...options, ...words].join(' ');
    return run('script', ['-qec', command, '/dev/null'], input);
  }

  function changes(): string[][] {
    return agents.map((agent) => agent.changes);
  }

  it('prints a result for each host, and at the end those that could not be reached', async () => {
    const { status, stdout, stderr } = await elioctl('destroy', '--yes', '0');
    assert.equal(status, EXIT.partial);
    const rows = stdout.trimEnd().split('\n');
    assert.deepEqual(
      rows.map((row) => row.split(/ +/)),
      [
        ['HOST', 'RESULT'],
        ['db1', 'ok'],
        ['db2', 'ok'],
        ['db3', 'failed'],
        ['db4', 'unreachable'],
      ],
    );
    const lines = stderr.trimEnd().split('\n');
    assert.equal(lines.length, 3, stderr);
    assert.equal(lines[0], 'elioctl: db3: there is no snapshot 0');
    assert.match(lines[1] ?? '', /^elioctl: cannot reach the agent on db4 .*ECONNREFUSED/);
    assert.equal(lines[2], 'elioctl: of 4 hosts 1 failed, 1 could not be reached');
    assert.deepEqual(changes(), [['destroySnapshot'], ['destroySnapshot'], ['destroySnapshot']]);
  });

  it('prints JSON with the same keys for one host and for several', async () => {
    const all = await elioctl('get-free-minor', '--output', 'json');
    assert.equal(all.status, EXIT.partial);
    const results = JSON.parse(all.stdout) as Record<string, unknown>[];
    assert.deepEqual(results.slice(0, 3), [
      { host: 'db1', result: 'ok', minor: 1 },
      { host: 'db2', result: 'ok', minor: 1 },
      { host: 'db3', result: 'ok', minor: 0 },
    ]);
    const { message, ...last } = results[3] ?? {};
    assert.deepEqual(last, { host: 'db4', result: 'unreachable', exit_status: 6, reason: '' });
    assert.match(String(message), /cannot reach/);
    const one = await elioctl('--host', 'db1', 'get-free-minor', '--output', 'json');
    assert.deepEqual(JSON.parse(one.stdout), results.slice(0, 1));
  });

  it("leaves one host's output as the manual page has it", async () => {
    assert.equal((await elioctl('--host', 'db3', 'get-free-minor')).stdout, '0\n');
    const setup = ['setup-snapshot', '/dev/vdb', '/srv/cow', '0'];
    assert.deepEqual(await elioctl('--host', 'db3', ...setup), {
      status: 0,
      stdout: '',
      stderr: '',
    });
    const { stdout } = await elioctl('--host', 'db3', 'info', '0');
    assert.match(stdout, /^\{\n\t"minor": 0,\n\t"cow_file": "\/cow",\n/);
  });

  it('exits with the code of their class when all hosts failed alike', async () => {
    assert.equal((await elioctl('--group', 'same', 'info', '7')).status, EXIT.notFound);
    assert.equal((await elioctl('--group', 'down', 'list')).status, EXIT.unreachable);
    assert.equal((await elioctl('--host', 'db1,db4', 'info', '7')).status, EXIT.failed);
  });

  it('says what --dry-run would do, with the exit code of what would fail, and does nothing', async () => {
    const destroy = await elioctl('--group', 'up', 'destroy', '--dry-run', '0');
    assert.equal(destroy.status, EXIT.partial);
    assert.match(destroy.stdout, /^db2 +ok +db2: would end the tracking of \/dev\/vdb .*delete/m);
    assert.match(destroy.stderr, /^elioctl: db3: there is no snapshot 0$/m);
    const setup = (...words: readonly string[]): Promise<Result> =>
      elioctl('--host', 'db3', 'setup-snapshot', '--dry-run', ...words, '0');
    const fine = await setup('/dev/vdb', '/srv/cow');
    assert.equal(fine.status, 0, fine.stderr);
    assert.match(fine.stdout, /^db3: would take snapshot 0 of \/dev\/vdb \(ext4 on \/srv\)/);
    const cases: [number, RegExp, ...string[]][] = [
      [EXIT.notFound, /no block device/, '/dev/vdc', '/srv/cow'],
      [EXIT.usage, /not on \/dev\/vdb/, '/dev/vdb', '/mnt/cow'],
      [EXIT.usage, /at least 6 MiB/, '-f', '5', '/dev/vdb', '/srv/cow'],
    ];
    for (const [status, message, ...words] of cases) {
      const refused = await setup(...words);
      assert.equal(refused.status, status, refused.stderr);
      assert.match(refused.stderr, message);
    }
    const again = ['setup-snapshot', '--dry-run', '/dev/vdb', '/srv/cow'];
    const taken = await elioctl('--host', 'db1', ...again, '0');
    assert.equal(taken.status, EXIT.state);
    assert.match(taken.stderr, /minor 0 is in use/);
    const tracked = await elioctl('--host', 'db1', ...again, '1');
    assert.equal(tracked.status, EXIT.usage);
    assert.match(tracked.stderr, /tracked already/);
    const wrongState = ['transition-to-snapshot', '--dry-run', '/srv/cow2', '0'];
    const refused = await elioctl('--host', 'db1', ...wrongState);
    assert.equal(refused.status, EXIT.state);
    assert.match(refused.stderr, /state snapshot, and incremental is needed/);
    const incremental = {
      state: TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL,
      stateBits: 2n,
      imageDevice: '',
    };
    agents[1]?.snapshots.set(0, stubSnapshot(0, incremental));
    const transition = ['transition-to-snapshot', '--dry-run', '/srv/cow2', '0'];
    const small = await elioctl('--host', 'db2', ...transition, '-f', '5M');
    assert.equal(small.status, EXIT.usage);
    assert.match(small.stderr, /at least 6 MiB/);
    // Whole MiB are what the driver is asked for.
    assert.equal((await elioctl('--host', 'db2', ...transition, '-f', '5900K')).status, EXIT.ok);
    assert.deepEqual(changes(), [[], [], []]);
  });

  it("judges a cache by the memory of the agent's host, also with --dry-run", async () => {
    const halfMib = (STUB_MEMORY_BYTES / 2n) >> 20n;
    const calls = [
      ['reconfigure', 'db1', '0'],
      ['setup-snapshot', 'db3', '/dev/vdb', '/srv/cow', '0'],
    ];
    for (const [command = '', host = '', ...words] of calls) {
      const plan = (mib: bigint): Promise<Result> =>
        elioctl('--host', host, command, '--dry-run', '-c', String(mib), ...words);
      const fine = await plan(halfMib);
      assert.equal(fine.status, EXIT.ok, fine.stderr);
      const refused = await plan(halfMib + 1n);
      assert.equal(refused.status, EXIT.usage);
      assert.match(refused.stderr, /more than half of the memory .* MiB, not bytes/);
    }
  });

  it('does not destroy snapshots of several hosts without being told so', async () => {
    const refused = await elioctl('--group', 'same', 'destroy', '0');
    assert.equal(refused.status, EXIT.usage);
    assert.match(refused.stderr, /destroyed on 2 hosts \(db1, db2\): add --yes/);
    const declined = await onTerminal('yes\n', '--group', 'same', 'destroy', '0');
    assert.equal(declined.status, EXIT.failed, declined.stdout);
    assert.match(declined.stdout, /on 2 hosts \(db1, db2\)\. Type the number of hosts to go on:/);
    assert.match(declined.stdout, /nothing was done/);
    assert.deepEqual(changes(), [[], [], []]);
    const agreed = await onTerminal('2\n', '--group', 'same', 'destroy', '0');
    assert.equal(agreed.status, EXIT.ok, agreed.stdout);
    assert.deepEqual(changes(), [['destroySnapshot'], ['destroySnapshot'], []]);
    // One host is never asked about.
    assert.equal((await elioctl('--host', 'db1', 'destroy', '0')).status, EXIT.notFound);
  });

  it('prints the block devices of hosts, and finds them by their stable ids', async () => {
    const table = await elioctl('--host', 'db1,db3', 'devices');
    const rows = table.stdout.trimEnd().split('\n');
    assert.match(rows[1] ?? '', /^db1 +\/dev\/vdb +disk +2\.0 GiB +ext4 +\/srv +0 +SERIAL=data$/);
    assert.match(rows[2] ?? '', /^db3 .* -  +SERIAL=data$/);
    const { stdout } = await elioctl('--host', 'db3', 'devices', '--output', 'json');
    const [device] = JSON.parse(stdout) as Record<string, unknown>[];
    assert.deepEqual([device?.['stable_id'], device?.['minor']], ['SERIAL=data', null]);
    const plan = (id: string): Promise<Result> =>
      elioctl('--host', 'db3', 'setup-snapshot', '--dry-run', id, '/srv/cow', '0');
    assert.match((await plan('SERIAL=data')).stdout, /would take snapshot 0 of \/dev\/vdb/);
    assert.equal((await plan('SERIAL=other')).status, EXIT.notFound);
  });

  it('watches a fleet: lines elsewhere, a table that is drawn again on a terminal', async () => {
    const looks = ['watch', '--count', '2', '--interval', '0.1'];
    const plain = await elioctl('--host', 'db1,db3,db4', ...looks);
    assert.equal(plain.status, EXIT.partial);
    const lines = plain.stdout.trimEnd().split('\n');
    assert.equal(lines.length, 5, plain.stdout);
    assert.match(lines[0] ?? '', /^TIME +HOST +MINOR +DEVICE +STATE/);
    assert.match(
      lines[1] ?? '',
      /^20\S+Z +db1 +0 +\/dev\/vdb +snapshot +\[#### {6}] +43 % +100 +-$/,
    );
    assert.match(lines[2] ?? '', /^20\S+Z +db4 +- +- +unreachable$/);
    assert.match(lines[3] ?? '', /100 +0 B\/s$/);
    const json = await elioctl('--host', 'db1', ...looks, '--output', 'json');
    const last = JSON.parse(json.stdout.trimEnd().split('\n')[1] ?? '') as Record<string, unknown>;
    assert.equal(last['changed_bytes_per_second'], 0);
    assert.equal(last['cow_fill'], (4198400 + 100 * 4096) / (10 << 20));
    const drawn = await onTerminal('', '--host', 'db1', ...looks);
    assert.equal(drawn.status, EXIT.ok, drawn.stdout);
    assert.equal(drawn.stdout.split('\x1b[H').length, 3);
    assert.match(drawn.stdout, /db1 +0 +\/dev\/vdb +snapshot/);
  });

  it('goes on with events where it was when a connection breaks', async () => {
    const follow = (...words: readonly string[]): Promise<Result> =>
      elioctl('events', '--count', '3', '--output', 'json', ...words);
    const { status, stdout, stderr } = await follow('--host', 'db1');
    assert.equal(status, 0, stderr);
    const percents = stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { percent: number }).percent);
    assert.deepEqual(percents, [1, 2, 3]);
    assert.match(stderr, /^elioctl: .*db1.*: trying again\n$/);
    assert.equal((await follow('--group', 'down')).status, EXIT.unreachable);
    const ambiguous = await follow('--group', 'same', '--resume-token', '1');
    assert.equal(ambiguous.status, EXIT.usage);
  });

  it('colours what is wrong on a terminal, unless NO_COLOR is set', async () => {
    agents[0]?.snapshots.set(0, stubSnapshot(0, { error: -27 }));
    const red = '\x1b[31m';
    assert.ok((await onTerminal('', '--host', 'db1', 'list')).stdout.includes(red));
    const command = [process.execPath, ...options, '--host', 'db1', 'list'].join(' ');
    const plain = await run('script', ['-qec', `NO_COLOR=1 ${command}`, '/dev/null']);
    assert.match(plain.stdout, /failed \(-27\)/);
    assert.ok(!plain.stdout.includes(red));
    assert.ok(!(await elioctl('--host', 'db1', 'list')).stdout.includes(red));
  });

  it('examines hosts, and the certificates with which it asks them', async () => {
    const { stdout, status } = await elioctl('--group', 'same', 'doctor', '--output', 'json');
    assert.equal(status, 0, stdout);
    const found = JSON.parse(stdout) as Record<string, string>[];
    assert.deepEqual(
      found.map(({ host, verdict, subject }) => [host, verdict, subject]),
      [
        ['this client', 'note', "client's certificate"],
        ['this client', 'note', "client's certificate: CA"],
        ['db1', 'ok', 'kernel module'],
        ['db1', 'ok', 'kernel'],
        ['db2', 'ok', 'kernel module'],
        ['db2', 'ok', 'kernel'],
      ],
    );
    assert.match(found[0]?.['message'] ?? '', /^it expires in 0 days/);
  });
});
