// SPDX-License-Identifier: Apache-2.0
// The main job over two hosts: full and incremental backups, verification, restore; broken at every step and run again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  copyFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { INCREMENT_STEPS } from '../../ctl/src/backup/steps.js';
import type { BackupResult } from '../../ctl/src/backup/backup.js';
import type { SkippedRuns } from '../../ctl/src/backup/skipped.js';
import { elioctlProgram, RemoteElioctl } from '../harness/elioctl.js';
import { sample } from '../harness/length.js';
import { startAgent, unloadModule, type FleetHost } from '../harness/fleet.js';
import { checkCommand, runCommand } from '../harness/process.js';
import { useFleet } from '../harness/scenario.js';
import { mountExt4 } from './driver.js';

const mib = 1 << 20;
const dataMib = 32;
const exit = { failed: 1, usage: 2, partial: 3, state: 5, interrupted: 130 };

describe('main job', () => {
  const fleet = useFleet({
    count: 2,
    disks: [
      { name: 'data', sizeMib: dataMib },
      { name: 'spare', sizeMib: dataMib + 8 },
      { name: 'small', sizeMib: dataMib - 16 },
      { name: 'sectors-4k', sizeMib: dataMib, blockSize: 4096 },
    ],
  });
  let directory = '';
  let hosts: { host: FleetHost; elioctl: RemoteElioctl; file: string }[] = [];

  /** The first host, on which most tests work. */
  function first(): { host: FleetHost; elioctl: RemoteElioctl; file: string } {
    const [one] = hosts;
    assert.ok(one);
    return one;
  }

  function disk(name: string): string {
    return first().host.vm.disk(name);
  }

  /** Writes files of so many MiB that did not exist before. */
  async function change(host: FleetHost, sizeMib: number): Promise<void> {
    await host.vm.sh(
      `head -c ${sizeMib}M /dev/urandom > /t/data/new && mv /t/data/new /t/data/changed && sync`,
    );
  }

  async function stateOf(): Promise<{ state: number; error?: number; minor: number }> {
    const list = JSON.parse(await first().elioctl.check('list', '--output', 'json')) as {
      minor: number;
    }[];
    assert.equal(list.length, 1);
    const minor = list[0]?.minor ?? 0;
    return JSON.parse(await first().elioctl.check('info', String(minor))) as {
      state: number;
      minor: number;
    };
  }

  /** SHA-256 of a volume with zeros where a backup skipped blocks. */
  function hashWithout(volume: Buffer, skipped: SkippedRuns): string {
    const content = Buffer.from(volume);
    for (const [block, count] of skipped) content.fill(0, block * 4096, (block + count) * 4096);
    return createHash('sha256').update(content).digest('hex');
  }

  /** The same of a device of a host, without elioctl. */
  async function hashOnHost(
    { vm }: FleetHost,
    device: string,
    skipped: SkippedRuns,
  ): Promise<string> {
    const zero = skipped.map(
      ([block, count]) => `fallocate -p -o ${block * 4096} -l ${count * 4096} /tmp/volume\n`,
    );
    const hash = await vm.sh(
      `head -c ${dataMib}M ${device} > /tmp/volume\n${zero.join('')}sha256sum < /tmp/volume && rm /tmp/volume`,
    );
    return hash.slice(0, 64);
  }

  async function skippedIn(manifest: string): Promise<SkippedRuns> {
    return (JSON.parse(await readFile(manifest, 'utf8')) as { skipped: SkippedRuns }).skipped;
  }

  /** A backup that has to succeed and whose file has to be the image, by checksums computed apart. */
  async function checkedBackup(file: string): Promise<BackupResult> {
    const { host, elioctl } = first();
    const result = await elioctl.backup('--keep-snapshot', disk('data'), file);
    const { minor, state } = await stateOf();
    assert.equal(state, 3);
    const skipped = await skippedIn(`${file}.manifest`);
    assert.equal(
      hashWithout(await readFile(file), skipped),
      await hashOnHost(host, `/dev/elastio-snap${minor}`, skipped),
    );
    await elioctl.check('verify', file, disk('data'));
    await elioctl.check('transition-to-incremental', String(minor));
    return result;
  }

  /** Runs a backup that ends itself at a step as a power cut would. */
  async function breakBackupAt(step: string, file: string): Promise<void> {
    const env = { ...process.env, ELIO_TEST_STOP_AT: step };
    const result = await first().elioctl.run(['backup', disk('data'), file], { env });
    assert.equal(result.status, 128 + 9, `${step}: ${result.stdout}${result.stderr}`);
  }

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-main-job-'));
    hosts = fleet().hosts.map((host) => ({
      host,
      elioctl: new RemoteElioctl(host.address, fleet().tls),
      file: join(directory, `${host.name}.img`),
    }));
    for (const { host } of hosts) {
      await mountExt4(host.vm, host.vm.disk('data'), '/t/data');
      await host.vm.sh('cp -r /etc /t/data/kept && sync');
    }
  });
  after(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it('moves all blocks once, then only those that changed, and ends in incremental mode', async () => {
    await Promise.all(
      hosts.map(async ({ host, elioctl, file }) => {
        const data = host.vm.disk('data');
        const full = await elioctl.backup('--verify', data, file);
        assert.equal(full.type, 'full');
        assert.equal(full.volume_bytes, dataMib * mib);
        assert.equal(full.covered_bytes, dataMib * mib);
        assert.equal(full.allocated_unknown_reason, '');
        assert.ok(full.skipped_bytes > 4 * mib, String(full.skipped_bytes));
        await change(host, 2);
        const increment = await elioctl.backup('--verify', data, file);
        assert.equal(increment.type, 'incremental');
        assert.ok(increment.covered_bytes >= 2 * mib, String(increment.covered_bytes));
        assert.ok(increment.covered_bytes < (dataMib * mib) / 2, String(increment.covered_bytes));
        assert.ok(increment.sent_bytes <= increment.covered_bytes);
        assert.equal(increment.cookie.uuid, full.cookie.uuid);
        assert.equal(
          await host.vm.sh('ls -A /t/data | grep -c elio-cow'),
          '1\n',
          'the old COW file is still there',
        );
      }),
    );
    assert.equal((await stateOf()).state, 2);
  });

  it('restores the backup of one host on the other', async () => {
    await Promise.all(
      hosts.map(async ({ host, file }, index) => {
        const other = hosts[(index + 1) % hosts.length];
        assert.ok(other);
        const { vm } = other.host;
        const spare = vm.disk('spare');
        await host.vm.sh(
          'cd /t/data && find . -type f ! -name ".elio*" | xargs sha256sum > /tmp/sums',
        );
        await host.vm.get('/tmp/sums', join(directory, `${host.name}.sums`));
        await other.elioctl.check('restore', '--yes', file, spare);
        await vm.put(join(directory, `${host.name}.sums`), '/tmp/wanted');
        await vm.sh(
          `e2fsck -fn ${spare} && mkdir -p /restored && mount -o ro ${spare} /restored &&
           cd /restored && sha256sum --quiet -c /tmp/wanted && cd / && umount /restored`,
        );
      }),
    );
  });

  it('restores only what the target does not hold, if it is told to', async () => {
    const [one, other] = hosts;
    assert.ok(one && other);
    const { vm } = other.host;
    const spare = vm.disk('spare');
    const again = async (): Promise<{ sent_bytes: number; same_bytes: number }> => {
      const words = ['restore', '--yes', '--only-changed', '--output', 'json', one.file, spare];
      return JSON.parse(await other.elioctl.check(...words)) as Awaited<ReturnType<typeof again>>;
    };
    const same = await again();
    assert.deepEqual([same.sent_bytes, same.same_bytes], [0, dataMib * mib]);
    await vm.sh(
      `dd if=/dev/urandom of=${spare} bs=4k seek=3000 count=1 conv=notrunc,fsync status=none`,
    );
    const mended = await again();
    assert.equal(mended.same_bytes, (dataMib - 1) * mib);
    assert.ok(mended.sent_bytes <= mib);
  });

  it('is done for a whole fleet by one command, again and again', async () => {
    const dest = join(directory, 'fleet');
    const inventory = join(directory, 'fleet.yaml');
    const { ca, cert, key } = fleet().tls;
    const listed = hosts.map(({ host: { name, address } }) => {
      const [ip = '', port = ''] = address.split(':');
      return `  - { name: ${name}, address: ${ip}, port: ${port} }`;
    });
    await writeFile(
      inventory,
      [`ca: ${ca}`, `cert: ${cert}`, `key: ${key}`, 'hosts:', ...listed].join('\n'),
    );
    await mkdir(dest);
    const run = async (): Promise<{ status: number; types: (string | null)[] }> => {
      const metrics = join(directory, 'fleet.prom');
      const words = ['--inventory', inventory, 'fleet', 'backup', '--dest', dest];
      const options = ['--device', disk('data'), '--verify', '--metrics', metrics];
      const { status, stdout, stderr } = await runCommand(
        [...elioctlProgram, ...words, ...options, '--output', 'json'],
        { timeoutMs: 300_000 },
      );
      assert.match(stdout, /^\[/, stderr);
      const rows = JSON.parse(stdout) as { type: string | null }[];
      assert.match(await readFile(metrics, 'utf8'), /elio_backup_last_success_seconds\{/);
      return { status, types: rows.map(({ type }) => type) };
    };
    const full = await run();
    assert.deepEqual(full, { status: 0, types: ['full', 'full'] });
    await Promise.all(hosts.map(({ host }) => change(host, 1)));
    assert.deepEqual(await run(), { status: 0, types: ['incremental', 'incremental'] });
    const [one, other] = hosts;
    assert.ok(one && other);
    const set = join(dest, one.host.name, 'dev+disk+by-id+virtio-data');
    await one.elioctl.check('backups', 'check', set);
    await other.elioctl.check('restore', '--yes', set, other.host.vm.disk('spare'));

    await other.host.vm.sh('kill -9 $(cat /run/eliod.pid)');
    const partial = await run();
    assert.deepEqual(partial, { status: exit.partial, types: ['incremental', null] });
    await startAgent(other.host.vm);
    assert.equal((await readdir(join(dest, 'reports'))).length, 3);
  });

  it('restores a volume that ends within a sector of the target', async () => {
    const { host, elioctl } = first();
    const { vm } = host;
    const file = join(directory, 'odd.img');
    const sizeBytes = 20 * mib + 512;
    const odd = (
      await vm.sh(
        `modprobe loop && truncate -s ${sizeBytes} /tmp/odd && losetup -f --show /tmp/odd`,
      )
    ).trim();
    await vm.sh(
      `head -c 512 /dev/zero | tr '\\0' Z | dd of=${odd} seek=${20 * mib} oflag=seek_bytes status=none`,
    );
    await mountExt4(vm, odd, '/t/odd');
    await vm.sh('cp -r /etc /t/odd && sync');
    const full = await elioctl.backup('--all', '--verify', '--keep-snapshot', odd, file);
    assert.equal(full.volume_bytes, sizeBytes);
    const { minor } = full;
    await elioctl.check('restore', '--yes', file, disk('sectors-4k'));
    await vm.sh(`cmp -n ${sizeBytes} /dev/elastio-snap${minor} ${disk('sectors-4k')}`);
    await elioctl.check('destroy', String(minor));
    await vm.sh(`umount /t/odd && losetup -d ${odd} && rm /tmp/odd`);
  });

  it('keeps each state of a device in a set, which QEMU reads and restore writes', async () => {
    const { host, elioctl } = first();
    const set = join(directory, 'set');
    const data = disk('data');
    const spare = disk('spare');
    const images: { skipped: SkippedRuns; hash: string }[] = [];
    for (const parent of [null, 1, 2]) {
      await change(host, 2);
      const result = await elioctl.backup('--verify', '--keep-snapshot', data, `${set}/`);
      assert.equal(result.parent, parent, result.reason);
      const image = `/dev/elastio-snap${result.minor}`;
      const skipped = await skippedIn(join(set, `00000${result.id}.json`));
      images.push({ skipped, hash: await hashOnHost(host, image, skipped) });
      await elioctl.check('verify', set, data);
      await elioctl.check('transition-to-incremental', String(result.minor));
    }
    const raw = join(directory, 'set.raw');
    for (const [i, { skipped, hash }] of images.entries()) {
      await checkCommand([
        'qemu-img',
        'convert',
        '-O',
        'raw',
        join(set, `00000${i + 1}.qcow2`),
        raw,
      ]);
      assert.equal(hashWithout(await readFile(raw), skipped), hash);
    }
    await elioctl.check('backups', 'prune', '--yes', '--keep-last', '2', set);
    await elioctl.check('backups', 'check', set);
    for (const id of [2, 3]) {
      await elioctl.check('restore', '--yes', `${set}@${id}`, spare);
      const wanted = images[id - 1];
      assert.ok(wanted);
      assert.equal(await hashOnHost(host, spare, wanted.skipped), wanted.hash);
    }
  });

  describe('broken and run again', () => {
    // So that only what follows is to be moved again, not what others have changed and kept elsewhere.
    before(async () => {
      await checkedBackup(first().file);
    });

    for (const step of sample(INCREMENT_STEPS, 4)) {
      it(`is incremental after an end at "${step}"`, async () => {
        const { host, elioctl, file } = first();
        await change(host, 1);
        await breakBackupAt(step, file);
        // Whatever the file is now: it says no wrong thing, and a restore of it is what some run committed.
        const verified = await elioctl.run(['verify', file]);
        assert.ok([0, exit.state].includes(verified.status), verified.stderr);
        await host.vm.sh('echo goes on > /t/data/file && sync');
        const next = await checkedBackup(file);
        assert.equal(next.type, 'incremental', next.reason);
        assert.ok(next.covered_bytes < (dataMib * mib) / 2, `${next.covered_bytes} bytes`);
        assert.equal((await elioctl.run(['verify', file])).status, 0);
        for (const left of ['journal', 'partial', 'progress'])
          assert.ok(!existsSync(`${file}.${left}`), left);
      });
    }

    it('takes a full when the full was broken, and leaves nothing of it', async () => {
      const fresh = join(directory, 'fresh.img');
      await breakBackupAt('half-streamed', fresh);
      const verified = await first().elioctl.run(['verify', fresh]);
      assert.notEqual(verified.status, 0);
      assert.match(verified.stderr, /^elioctl: .+\n$/);
      const next = await checkedBackup(fresh);
      assert.equal(next.type, 'full');
      assert.ok(!existsSync(`${fresh}.partial`));
    });

    it('keeps the older backup until a full that replaces it is complete', async () => {
      const { elioctl } = first();
      const file = join(directory, 'replaced.img');
      await elioctl.backup(disk('data'), file);
      const before = createHash('sha256')
        .update(await readFile(file))
        .digest('hex');
      const manifest = await readFile(`${file}.manifest`, 'utf8');
      // A nonce that the host does not know: as if the host had been reverted.
      await writeFile(
        `${file}.manifest`,
        manifest.replace(/"nonce": ?"[0-9a-f]{32}"/, `"nonce": "${'0'.repeat(32)}"`),
      );
      await breakBackupAt('half-streamed', file);
      assert.equal((await elioctl.run(['verify', file])).status, 0);
      assert.equal(
        createHash('sha256')
          .update(await readFile(file))
          .digest('hex'),
        before,
      );
      const next = await checkedBackup(file);
      assert.equal(next.type, 'full');
      assert.match(next.reason, /reverted or cloned/);
    });

    it('interrupted by the user, exits with 130 and leaves the host in incremental mode', async () => {
      const { elioctl } = first();
      const fresh = join(directory, 'interrupted.img');
      const env = {
        ...process.env,
        ELIO_TEST_STOP_AT: 'progress-recorded',
        ELIO_TEST_STOP_BY: 'SIGINT',
        ELIO_TEST_PROGRESS_BYTES: String(mib),
      };
      const { status, stderr } = await elioctl.run(['backup', disk('data'), fresh], { env });
      assert.equal(status, exit.interrupted, stderr);
      assert.equal((await stateOf()).state, 2);
      assert.ok(!existsSync(fresh));
      assert.ok(!existsSync(`${fresh}.partial`));
    });

    it('goes on where it was when the agent is killed in the middle of it', async () => {
      const { host, elioctl } = first();
      const fresh = join(directory, 'resumed.img');
      const [program = '', ...args] = elioctl.argv(
        'backup',
        '--all',
        '--verify',
        disk('data'),
        fresh,
      );
      const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      const writtenBytes = async (): Promise<number> =>
        ((await stat(`${fresh}.partial`).catch(() => undefined))?.blocks ?? 0) * 512;
      while ((await writtenBytes()) < 4 * mib && child.exitCode === null) await delay(20);
      await host.vm.sh(
        'kill -9 $(cat /run/eliod.pid); while kill -0 $(cat /run/eliod.pid); do sleep 0.2; done 2> /dev/null',
      );
      await startAgent(host.vm);
      assert.equal(await ended, 0, said);
      assert.match(said, /trying to go on/);
      assert.match(said, /the backup equals the image/);
    });

    for (const place of ['killed.img', 'killed-set/']) {
      it(`goes on where it was when it was killed itself (${place})`, async () => {
        const { elioctl } = first();
        const fresh = join(directory, place) + (place.endsWith('/') ? '/' : '');
        const env = { ELIO_TEST_STOP_AT: 'half-streamed', ELIO_TEST_PROGRESS_BYTES: String(mib) };
        const words = ['backup', '--all', disk('data'), fresh];
        const killed = await elioctl.run(words, { env: { ...process.env, ...env } });
        assert.equal(killed.status, 128 + 9, killed.stderr);
        const next = await elioctl.backup('--all', '--verify', disk('data'), fresh);
        const resumedAt = next.resumed_at_bytes ?? 0;
        assert.ok(resumedAt >= mib, next.reason);
        assert.equal(next.covered_bytes, dataMib * mib - resumedAt);
        await elioctl.check('verify', fresh);
      });
    }

    it('goes on incrementally when the agent was killed meanwhile', async () => {
      const { host, elioctl, file } = first();
      await change(host, 1);
      await breakBackupAt('snapshot-taken', file);
      await host.vm.sh(
        'kill -9 $(cat /run/eliod.pid); while kill -0 $(cat /run/eliod.pid); do sleep 0.2; done 2> /dev/null',
      );
      const down = await elioctl.run(['backup', disk('data'), file]);
      assert.equal(down.status, 6);
      await startAgent(host.vm);
      assert.equal((await checkedBackup(file)).type, 'incremental');
    });
  });

  describe('the next run', () => {
    it('is incremental for a second destination with another rhythm', async () => {
      const { host, elioctl, file } = first();
      const second = join(directory, 'second.img');
      await elioctl.backup(disk('data'), second);
      for (let round = 0; round < 3; round += 1) {
        await change(host, 1);
        await elioctl.backup(disk('data'), file);
      }
      const late = await checkedBackup(second);
      assert.equal(late.type, 'incremental');
      assert.ok(late.covered_bytes >= 3 * mib, String(late.covered_bytes));
    });

    it('is a full, and says why, when tracking has begun anew', async () => {
      const { elioctl, file } = first();
      await elioctl.check('destroy', String((await stateOf()).minor));
      const next = await checkedBackup(file);
      assert.equal(next.type, 'full');
      assert.match(next.reason, /another chain/);
    });

    it('is a full, and says why, after the snapshot overflowed', async () => {
      const { host, elioctl, file } = first();
      const { minor } = await stateOf();
      await elioctl.check('transition-to-snapshot', '-f', '2', '/t/data/tiny', String(minor));
      await change(host, 8);
      await change(host, 8);
      assert.equal((await stateOf()).error, -27);
      const next = await checkedBackup(file);
      assert.equal(next.type, 'full');
      assert.match(next.reason, /another chain|-27|failed/);
    });

    it('is incremental after the filesystem was unmounted, and after the module was unloaded', async () => {
      const { host, elioctl, file } = first();
      await host.vm.sh(`umount /t/data && mount ${disk('data')} /t/data`);
      const next = await checkedBackup(file);
      assert.equal(next.type, 'incremental');

      const minor = String((await stateOf()).minor);
      const info = JSON.parse(await elioctl.check('info', minor)) as { cow_file: string };
      await host.vm.sh(
        `umount /t/data && ${unloadModule} && insmod /opt/elio/elastio-snap.ko && udevadm settle`,
      );
      await elioctl.check('reload-incremental', disk('data'), info.cow_file, minor);
      await host.vm.sh(`mount ${disk('data')} /t/data && echo changed > /t/data/changed`);
      const afterReload = await checkedBackup(file);
      assert.equal(afterReload.type, 'incremental');
    });
  });

  describe('bad input', () => {
    async function refused(code: number, message: RegExp, ...words: string[]): Promise<void> {
      const { status, stdout, stderr } = await first().elioctl.run(words);
      assert.equal(status, code, stderr);
      assert.equal(stdout, '');
      assert.match(stderr.trimEnd().split('\n').at(-1) ?? '', message);
    }

    it('does not overwrite a file that is no backup', async () => {
      const foreign = join(directory, 'foreign');
      await writeFile(foreign, 'mine');
      await refused(exit.usage, /^elioctl: .*foreign/, 'backup', disk('data'), foreign);
      assert.equal(await readFile(foreign, 'utf8'), 'mine');
      await refused(exit.failed, /^elioctl: .*manifest/, 'verify', foreign);
      await refused(
        exit.failed,
        /^elioctl: .*manifest/,
        'restore',
        '--yes',
        foreign,
        disk('spare'),
      );
    });

    it('finds one byte that is wrong', async () => {
      const { elioctl, file } = first();
      const copy = join(directory, 'copy.img');
      await elioctl.backup('--keep-snapshot', disk('data'), file);
      await copyFile(file, copy);
      await copyFile(`${file}.manifest`, `${copy}.manifest`);
      const handle = await open(copy, 'r+');
      const at = 5 * mib + 12345;
      const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, at);
      await handle.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, at);
      await handle.close();
      await refused(exit.failed, /^elioctl: /, 'verify', copy);
      await refused(exit.failed, /^elioctl: /, 'verify', copy, disk('data'));
      await refused(exit.failed, /unusable/, 'restore', '--yes', copy, disk('spare'));
      await elioctl.check('transition-to-incremental', String((await stateOf()).minor));
    });

    it('does not restore to a device that is too small, mounted, tracked or none', async () => {
      const { host, elioctl, file } = first();
      await refused(
        exit.state,
        /has \d+ bytes and the backup/,
        'restore',
        '--yes',
        file,
        disk('small'),
      );
      await refused(exit.state, /mounted on \/t\/data/, 'restore', '--yes', file, disk('data'));
      await refused(4, /does not exist/, 'restore', '--yes', file, '/dev/missing');
      await refused(exit.usage, /not a block device/, 'restore', '--yes', file, '/etc/hostname');
      await refused(exit.usage, /--yes/, 'restore', file, disk('spare'));
      await host.vm.sh(`mkfs.ext4 -qF ${disk('spare')} && mount ${disk('spare')} /mnt`);
      await elioctl.check('setup-snapshot', disk('spare'), '/mnt/cow', '20');
      await host.vm.sh('umount /mnt');
      await refused(exit.state, /tracked as snapshot 20/, 'restore', '--yes', file, disk('spare'));
      await elioctl.check('destroy', '20');
    });

    it('says that the target is unusable when a restore is interrupted', async () => {
      const { host, elioctl, file } = first();
      const written = `awk '{ print $7 }' /sys/block/$(basename $(readlink -f ${disk('spare')}))/stat`;
      const before = (await host.vm.sh(written)).trim();
      const [program = '', ...args] = elioctl.argv('restore', '--yes', file, disk('spare'));
      const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      await host.vm.sh(`until [ $(${written}) -gt ${before} ]; do sleep 0.1; done`);
      child.kill('SIGINT');
      assert.equal(await ended, exit.interrupted);
      assert.match(said, /unusable/);
      await elioctl.check('restore', '--yes', file, disk('spare'));
    });
  });
});
