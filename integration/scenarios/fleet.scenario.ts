// SPDX-License-Identifier: Apache-2.0
// `make fleet` and `make fleet-stop`, as a CI harness uses them; and elioctl with several hosts, one of which is real.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { elioctlProgram, RemoteElioctl } from '../harness/elioctl.js';
import type { FleetDescription, FleetHost } from '../harness/fleet.js';
import { checkCommand, runCommand, type CommandResult } from '../harness/process.js';
import { useFleet } from '../harness/scenario.js';
import { mountExt4 } from './driver.js';

const control = join(import.meta.dirname, '..', 'harness', 'fleet-control.js');

describe('a fleet', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-fleet-'));
  });
  after(async () => {
    await checkCommand([process.execPath, control, 'stop', directory]);
    await rm(directory, { recursive: true });
  });

  it('is described by JSON with which every agent can be reached, and ends when told', async () => {
    const output = await checkCommand([process.execPath, control, 'start', '1', directory]);
    const description = JSON.parse(output) as FleetDescription;
    assert.equal(description.hosts.length, 1);
    const [host] = description.hosts;
    assert.ok(host);
    const elioctl = new RemoteElioctl(host.address, description.tls);
    assert.equal(await elioctl.check('get-free-minor'), '0\n');
    const shell = host.sshCommand.split(' ');
    assert.equal(await checkCommand([...shell, 'hostname']), `${host.name}\n`);
    await checkCommand([...shell, `test -b ${host.disks['data'] ?? ''}`]);

    const again = await runCommand([process.execPath, control, 'start', '1', directory]);
    assert.equal(again.status, 1);
    assert.match(again.stderr, /running already.*fleet-stop/);

    const keeper = (await readFile(join(directory, 'keeper.pid'), 'utf8')).trim();
    const machines = (await checkCommand(['pgrep', '-P', keeper, 'qemu'])).trim().split('\n');
    assert.equal(machines.length, 1);
    await checkCommand([process.execPath, control, 'stop', directory]);
    for (const pid of [keeper, ...machines]) {
      // Process 1 may have yet to collect what has ended; its command line is empty then.
      const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      assert.equal(commandLine, '');
    }
  });
});

describe('elioctl with several hosts', () => {
  const fleet = useFleet({ count: 1, disks: [{ name: 'data', sizeMib: 128 }] });
  const exit = { ok: 0, usage: 2, partial: 3, notFound: 4, state: 5, unreachable: 6 };
  let directory = '';
  let host: FleetHost;
  let elioctl: RemoteElioctl;
  let data = '';
  /** A port that takes connections and says nothing. */
  const silent = createServer();

  before(async () => {
    const [first] = fleet().hosts;
    assert.ok(first);
    host = first;
    data = host.vm.disk('data');
    await mountExt4(host.vm, data, '/t/data');
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    directory = await mkdtemp(join(tmpdir(), 'elio-inventory-'));
    const { ca, cert, key } = fleet().tls;
    const [address, port] = host.address.split(':');
    const lines = [
      `ca: ${ca}`,
      `cert: ${cert}`,
      `key: ${key}`,
      'groups:',
      '  one:',
      `    hosts: [{ name: ${host.name}, address: ${address ?? ''}, port: ${port ?? ''} }]`,
      // Nobody listens on the first ports of a machine.
      '  dead: { hosts: [{ name: dead, address: 127.0.0.1, port: 1 }] }',
      `  silent: { hosts: [{ name: silent, address: 127.0.0.1, port: ${String(silentPort())} }] }`,
    ];
    await writeFile(join(directory, 'inventory.yaml'), lines.join('\n'));
    elioctl = new RemoteElioctl(host.address, fleet().tls);
  });
  after(async () => {
    silent.close();
    await rm(directory, { recursive: true });
  });

  function silentPort(): number {
    const address = silent.address();
    assert.ok(address !== null && typeof address === 'object');
    return address.port;
  }

  /** Runs a command on groups of the inventory. */
  function onGroups(groups: string, ...words: readonly string[]): Promise<CommandResult> {
    const options = ['--inventory', join(directory, 'inventory.yaml'), '--group', groups];
    // A host that never answers is given up long before a call that takes its time.
    return runCommand([...elioctlProgram, ...options, ...words], { timeoutMs: 120_000 });
  }

  /** Everything that a command could have changed. */
  async function state(): Promise<string> {
    const files = await host.vm.sh('ls -lA --time-style=+ /t/data | grep -v lost+found');
    const info = await elioctl.check('info', '0').catch(String);
    // The filesystem writes on its own account.
    return info.replace(/"nr_changed_blocks": \d+/, '') + files;
  }

  it('goes on when a host cannot be reached, and when one never answers', async () => {
    const words = ['setup-snapshot', '-f', '16', data, '/t/data/cow', '0'];
    const { status, stdout, stderr } = await onGroups('one,dead,silent', ...words);
    assert.equal(status, exit.partial, stderr);
    const rows = stdout.split('\n').map((row) => row.split(/ {2,}/).slice(0, 3));
    assert.deepEqual(rows.slice(1, 4), [
      [host.name, 'ok', '0'],
      ['dead', 'unreachable'],
      ['silent', 'unreachable'],
    ]);
    assert.match(
      stderr,
      /^elioctl: cannot reach the agent on dead .*\nelioctl: silent did not answer in time.*\nelioctl: of 3 hosts 2 could not be reached\n$/,
    );
    const info = await onGroups('one,dead', 'info', '--output', 'json', '0');
    assert.equal(info.status, exit.partial);
    const [answer] = JSON.parse(info.stdout) as Record<string, unknown>[];
    assert.deepEqual(
      [answer?.['host'], answer?.['result'], answer?.['state'], answer?.['cow_file']],
      [host.name, 'ok', 3, '/cow'],
    );
    assert.equal((await onGroups('dead', 'info', '0')).status, exit.unreachable);
  });

  it('changes nothing with --dry-run, and exits as the command would', async () => {
    const file = join(directory, 'data.img');
    const before = await state();
    const plans: [number, RegExp, ...string[]][] = [
      [exit.ok, /would remove the image \/dev\/elastio-snap0/, 'transition-to-incremental', '0'],
      [exit.ok, /would change the limit .* to 8\.0 MiB/, 'reconfigure', '-c', '8', '0'],
      [exit.ok, /would end the tracking .* delete its COW file \/cow/, 'destroy', '0'],
      [exit.ok, /would take the next snapshot .* in full/, 'backup', data, file],
    ];
    for (const [code, message, command = '', ...words] of plans) {
      const planned = await elioctl.run([command, '--dry-run', ...words]);
      assert.equal(planned.status, code, planned.stderr);
      assert.match(planned.stdout, message);
    }
    const refusals: [number, ...string[]][] = [
      [exit.notFound, 'destroy', '7'],
      [exit.state, 'transition-to-snapshot', '/t/data/cow2', '0'],
      [exit.state, 'reload-snapshot', data, '/cow', '5'],
      [exit.usage, 'setup-snapshot', data, '/t/data/cow2', '5'],
      [exit.notFound, 'setup-snapshot', '/dev/missing', '/t/data/cow2', '5'],
    ];
    for (const [code, command = '', ...words] of refusals) {
      const planned = await elioctl.run([command, '--dry-run', ...words]);
      const real = await elioctl.run([command, ...words]);
      assert.deepEqual(
        [planned.status, real.status],
        [code, code],
        `${command} ${words.join(' ')}: ${planned.stderr}${real.stderr}`,
      );
    }
    assert.equal(await state(), before);
    await assert.rejects(readFile(file));
    await assert.rejects(readFile(`${file}.lock`));
  });

  it('sees what changes, and how fast', async () => {
    const looks = elioctl.check('watch', '--count', '3', '--interval', '2', '--output', 'json');
    await host.vm.sh(
      'for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/t/data/file bs=256K count=1 seek=$i conv=notrunc,fsync status=none; sleep 1; done',
    );
    const rows = (await looks).trimEnd().split('\n');
    const last = JSON.parse(rows.at(-1) ?? '') as Record<string, number | string | null>;
    assert.equal(rows.length, 3);
    assert.equal(last['state'], 'snapshot');
    assert.ok(Number(last['changed_bytes']) > 0, rows.join('\n'));
    assert.ok(Number(last['cow_fill']) > 0 && Number(last['cow_fill']) < 1, rows.join('\n'));
    assert.ok(
      rows.some((row) => Number((JSON.parse(row) as typeof last)['changed_bytes_per_second']) > 0),
      rows.join('\n'),
    );
  });

  it('examines a host from afar, and more of it on the host itself', async () => {
    const afar = await elioctl.check('doctor');
    assert.match(afar, /^this client +(ok|note) +client's certificate/m);
    assert.match(afar, /ok +kernel module +version/);
    assert.match(afar, /(ok|note) +kernel +\d/);
    const here = (await host.vm.run('elioctl doctor')).stdout;
    for (const subject of ['socket', 'signature', "agent's certificate", 'kernel module'])
      assert.match(here, new RegExp(`^this host +(ok|note) +${subject} `, 'm'));
  });

  it('destroys the snapshots of several hosts only when told so', async () => {
    const refused = await onGroups('one,dead', 'destroy', '0');
    assert.equal(refused.status, exit.usage);
    assert.match(refused.stderr, /destroyed on 2 hosts .*: add --yes/);
    assert.match(await elioctl.check('list'), /\/cow/);
    const done = await onGroups('one,dead', 'destroy', '--yes', '0');
    assert.equal(done.status, exit.partial, done.stderr);
    assert.equal(await elioctl.check('list', '--output', 'json'), '[]\n');
  });
});
