// SPDX-License-Identifier: Apache-2.0
// `make fleet` and `make fleet-stop`, as a CI harness uses them.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RemoteElioctl } from '../harness/elioctl.js';
import type { FleetDescription } from '../harness/fleet.js';
import { checkCommand, runCommand } from '../harness/process.js';

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
