// SPDX-License-Identifier: Apache-2.0
// The packages on a server: installed, used, upgraded while a device is tracked, purged while one is, with the unit they install.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../harness/cache.js';
import { holdOpen } from '../harness/hold-open.js';
import { rounds } from '../harness/length.js';
import { debianPackages } from '../harness/packages.js';
import { useVm } from '../harness/scenario.js';
import { mkfs } from './driver.js';

const manifest = readFileSync(join(repository, 'package.json'), 'utf8');
const { version } = JSON.parse(manifest) as { version: string };
const newerVersion = '99.0.0';
const minuteMs = 60_000;
/** Of a test in which an emulated processor compiles the module. */
const dkmsLimitMs = 20 * minuteMs;

/** Of each suite the packages are the same. An emulated processor takes half an hour for one. */
const suites = (['trixie', 'bookworm', 'bullseye'] as const).slice(0, rounds(1, 3));

for (const suite of suites)
  describe(`packages on ${suite}`, () => {
    const vm = useVm({
      name: suite,
      debian: suite,
      memoryMib: 2048,
      disks: [
        { name: 'home', sizeMib: 64 },
        { name: 'tmp', sizeMib: 64 },
        { name: 'late', sizeMib: 64 },
        { name: 'data', sizeMib: 64 },
        { name: 'spare', sizeMib: 64 },
      ],
    });

    /** Mounts a new ext4 of a scratch disk. */
    async function mount(name: string, directory: string, mode: string): Promise<void> {
      const disk = vm().disk(name);
      await vm().sh(
        `${mkfs('ext4', disk)} && mkdir -p ${directory} && mount ${disk} ${directory} && chmod ${mode} ${directory}`,
      );
    }

    /** What is mounted on a directory (on top of all else), by its kernel name. */
    async function deviceOf(directory: string): Promise<string> {
      return (await vm().sh(`readlink -f $(findmnt -nro SOURCE ${directory} | tail -1)`)).trim();
    }

    async function elioctl(...words: readonly string[]): Promise<string> {
      return vm().sh(`elioctl ${words.join(' ')}`);
    }

    /** Runs apt-get, which has to succeed; returns all it says. */
    async function apt(words: string): Promise<string> {
      return vm().sh(`DEBIAN_FRONTEND=noninteractive apt-get -y ${words} 2>&1`, {
        timeoutMs: dkmsLimitMs,
      });
    }

    async function agentPid(): Promise<string> {
      return (await vm().sh('systemctl show -P MainPID eliod')).trim();
    }

    before(async function () {
      this.timeout(dkmsLimitMs);
      await vm().put(await debianPackages(), '/root/packages');
      await vm().put(await debianPackages(newerVersion), '/root/newer');
      await mount('home', '/home', '755');
      await mount('tmp', '/tmp', '1777');
      await vm().sh('install -d -o 1000 -g 1000 -m 700 /home/user');
    });

    it('install the module and start the agent', async function () {
      this.timeout(dkmsLimitMs);
      await apt('install /root/packages/*.deb');
      await vm().sh('systemctl is-active eliod && systemctl is-enabled eliod');
      assert.equal(await vm().sh('systemctl is-system-running'), 'running\n');
      assert.equal(await vm().sh('modinfo -F version elastio-snap'), `${version}\n`);
      assert.match(await elioctl('doctor'), new RegExp(`ok +kernel module +version ${version}`));
      const facts = await vm().sh(
        'stat -c "%n %U:%G %a" /run/elio/agent.sock /var/lib/elio /etc/elio/tls',
      );
      assert.match(facts, /agent\.sock root:elio 660\n/);
      assert.match(facts, /\/var\/lib\/elio \S+ 700\n.*tls root:root 700\n/s);
      await vm().sh('test -e /usr/share/elio/proto/elio/v1/snapshot.proto');
    });

    // The DKMS of bullseye signs only what it is configured to.
    if (suite !== 'bullseye')
      it('install a module that is signed by the key of DKMS', async () => {
        assert.match(await vm().sh('modinfo -F signer elastio-snap'), /DKMS/);
        await vm().sh('test -s /var/lib/dkms/mok.pub');
      });

    it('install a unit that systemd-analyze gives at most 4.0', async () => {
      const analysis = await vm().sh('systemd-analyze security --no-pager eliod');
      const [, exposure] =
        /Overall exposure level for eliod.service: ([\d.]+)/.exec(analysis) ?? [];
      assert.ok(Number(exposure) <= 4, analysis);
      assert.equal(
        await vm().sh(`readlink /proc/${await agentPid()}/ns/mnt`),
        await vm().sh('readlink /proc/1/ns/mnt'),
      );
    });

    it('track /, /home, /tmp and a volume that was mounted after the agent had started', async () => {
      await mount('late', '/srv/late', '755');
      for (const [directory, cowFile] of [
        ['/', '/cow'],
        ['/home', '/home/user/cow'],
        ['/tmp', '/tmp/cow'],
        ['/srv/late', '/srv/late/cow'],
      ] as const) {
        const device = await deviceOf(directory);
        await elioctl('setup-snapshot', '-f', '24M', device, cowFile, '0');
        assert.equal(
          await vm().sh('blockdev --getsize64 /dev/elastio-snap0'),
          await vm().sh(`blockdev --getsize64 ${device}`),
        );
        await elioctl('destroy', '0');
      }
    });

    it('do not keep mounted what is unmounted', async () => {
      const late = vm().disk('late');
      await elioctl('setup-snapshot', await deviceOf('/srv/late'), '/srv/late/cow', '0');
      await vm().sh('umount /srv/late && ! grep -l " /srv/late " /proc/[0-9]*/mountinfo');
      await vm().sh(`mount ${late} /srv/late`);
      await elioctl('destroy', '0');
      // wipefs wants the device for itself.
      await vm().sh(`umount /srv/late && wipefs -q -a ${late}`);
    });

    it('have an agent that names who has an image open', async () => {
      await mount('late', '/srv/late', '755');
      await elioctl('setup-snapshot', await deviceOf('/srv/late'), '/srv/late/cow', '0');
      const pid = await holdOpen(vm(), '/dev/elastio-snap0');
      const refused = await vm().run('elioctl destroy 0');
      assert.equal(refused.status, 7);
      assert.match(refused.stderr, new RegExp(`open in process ${pid} \\(sleep\\)`));
      await vm().sh(`kill ${pid}`);
      await elioctl('destroy', '0');
    });

    it('are upgraded while a device is tracked: its next backup is an incremental one', async function () {
      this.timeout(dkmsLimitMs);
      await mount('data', '/srv/data', '755');
      const data = await deviceOf('/srv/data');
      await vm().sh('head -c 8M /dev/urandom > /srv/data/before && sync');
      await elioctl('backup', data, '/root/data.img');
      await vm().sh('head -c 1M /dev/urandom > /srv/data/tracked && sync');
      await vm().sh('echo "log_level: debug" >> /etc/elio/agent.yaml');
      const pid = await agentPid();

      const said = await apt('install /root/newer/*.deb');
      assert.match(said, /the module that is loaded stays, with all that it tracks/);
      assert.equal(await vm().sh('cat /sys/module/elastio_snap/version'), `${version}\n`);
      assert.equal(await vm().sh('modinfo -F version elastio-snap'), `${newerVersion}\n`);
      assert.match(
        await vm().sh('dkms status'),
        new RegExp(`^elastio-snap.*${newerVersion}.*installed`),
      );
      assert.notEqual(await agentPid(), pid);
      assert.equal(await elioctl('--version'), `${newerVersion}\n`);
      assert.match(await vm().sh('cat /etc/elio/agent.yaml'), /^log_level: debug$/m);

      await vm().sh('head -c 1M /dev/urandom > /srv/data/after && sync');
      assert.match(
        await elioctl('backup', '--verify', data, '/root/data.img'),
        /^incremental backup/,
      );
      await elioctl('restore', '--yes', '/root/data.img', vm().disk('spare'));
      await vm().sh(`mkdir -p /srv/spare && mount ${vm().disk('spare')} /srv/spare`);
      await vm().sh('cd /srv/data && for f in before tracked after; do cmp $f /srv/spare/$f; done');
      await vm().sh('umount /srv/spare');
    });

    it('are purged: what stays tracked is said, and nothing else stays', async () => {
      const data = await deviceOf('/srv/data');
      const said = await apt("purge 'elio-*'");
      assert.match(
        said,
        new RegExp(`the module stays loaded until the next reboot.*${data}: /`, 's'),
      );
      await vm().sh('test -d /sys/module/elastio_snap');
      const left = await vm().sh(
        "find / -xdev \\( -iname '*elio[-_.]*' -o -iname '*elio' -o -iname '*elastio*' -o -name 'eliod*' \\)" +
          " -not -path '/root/*' -not -path '/proc/*' -not -name '*elio-harness*' -not -path /opt/elio -not -path '/srv/*'",
      );
      assert.equal(left, '');
      assert.equal((await vm().run('getent group elio')).status, 2);
      assert.doesNotMatch(await vm().sh('dpkg -l'), /^\w+ +elio/m);

      await vm().reboot();
      assert.equal(await vm().sh('systemctl is-system-running'), 'running\n');
      assert.equal((await vm().run('test -d /sys/module/elastio_snap')).status, 1);
    });
  });
