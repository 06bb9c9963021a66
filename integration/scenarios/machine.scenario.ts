// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { checkCommand } from '../harness/process.js';
import { useVm } from '../harness/scenario.js';
import { Vm } from '../harness/vm.js';

describe('test machine', () => {
  const vm = useVm({
    disks: [
      { name: 'pattern', sizeMib: 32 },
      { name: 'zero', sizeMib: 32, fill: 'zero' },
      { name: 'sectors-4k', sizeMib: 32, blockSize: 4096 },
      { name: 'scsi', sizeMib: 32, bus: 'virtio-scsi' },
      { name: 'nvme', sizeMib: 32, bus: 'nvme' },
    ],
  });

  it('returns output and exit status of a command', async () => {
    const result = await vm().run('echo out; echo err >&2; cat; exit 3', { stdin: 'in' });
    assert.deepEqual(result, { status: 3, stdout: 'out\nin', stderr: 'err\n' });
    const alone = await vm().run("cd /; echo 'it''s' \"out\"\nprintf err >&2; cat; exit 3");
    assert.deepEqual(alone, { status: 3, stdout: 'its out\n', stderr: 'err' });
    assert.equal(await vm().sh('sleep 100 > /dev/null 2>&1 & pwd'), '/root\n');
    await assert.rejects(vm().sh('echo why >&2; false'), /status 1.*why/s);
    await assert.rejects(vm().sh('echo so far; sleep 100', { timeoutMs: 2000 }), /2000 ms\nso far/);
    await Promise.all(['1', '2'].map((number) => vm().sh(`sleep 0.${number}; echo ${number}`)));
  });

  it('gives every disk its size, its block size and a name of its own', async () => {
    for (const disk of ['pattern', 'zero', 'sectors-4k', 'scsi', 'nvme']) {
      const blockSize = disk === 'sectors-4k' ? 4096 : 512;
      const facts = await vm().sh(`blockdev --getsize64 --getss ${vm().disk(disk)}`);
      assert.equal(facts, `${String(32 * 1024 * 1024)}\n${String(blockSize)}\n`);
    }
  });

  it('fills a disk with a pattern that differs from sector to sector and holds no zero', async () => {
    const disk = vm().disk('pattern');
    assert.equal(await vm().sh(`tr -d -c '\\000' < ${disk} | wc -c`), '0\n');
    const sums = `for n in 0 1 2048 65535; do dd if=${disk} bs=512 skip=$n count=1 status=none | md5sum; done`;
    assert.equal(new Set((await vm().sh(sums)).trim().split('\n')).size, 4);
    assert.equal(await vm().sh(`tr -d '\\000' < ${vm().disk('zero')} | wc -c`), '0\n');
  });

  it('copies files in and out', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'elio-copy-'));
    await writeFile(join(directory, 'there'), 'content');
    await vm().put(join(directory, 'there'), '/tmp/there');
    await vm().get('/tmp/there', join(directory, 'back'));
    assert.equal(await readFile(join(directory, 'back'), 'utf8'), 'content');
    await rm(directory, { recursive: true });
  });

  it('finds what the kernel complains about, once', async () => {
    await vm().sh('echo "WARNING: made up by a test" > /dev/kmsg');
    await assert.rejects(vm().checkDmesg(), /WARNING: made up by a test/);
    await vm().checkDmesg();
  });

  it('loads and unloads the module of this kernel', async () => {
    await vm().sh('insmod /opt/elio/elastio-snap.ko && test -e /proc/elastio-snap-info');
    await vm().sh('rmmod elastio-snap && ! test -e /proc/elastio-snap-info');
  });
});

describe('the end of a test machine', () => {
  let logDir = '';
  before(async () => {
    logDir = await mkdtemp(join(tmpdir(), 'elio-machine-'));
  });
  after(async () => {
    await rm(logDir, { recursive: true });
  });

  it('comes with the first oops, and the next command says why', async () => {
    const vm = await Vm.boot({ name: 'crash', logDir });
    await vm.run('echo c > /proc/sysrq-trigger').catch(() => undefined);
    await assert.rejects(vm.sh('true'), /crash is gone:.*sysrq triggered crash/s);
    await vm.stop();
  });

  it('comes with the end of the process that booted it', async () => {
    const shell = join(import.meta.dirname, '..', 'harness', 'shell.js');
    const parent = spawn(process.execPath, [shell, '--', 'echo booted; sleep 1000'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await new Promise((resolve) => parent.stdout.once('data', resolve));
    const machine = (await checkCommand(['pgrep', '-P', String(parent.pid), 'qemu'])).trim();
    parent.kill('SIGKILL');
    while (existsSync(`/proc/${machine}`)) await delay(100);
  });
});
