// SPDX-License-Identifier: Apache-2.0
// Backup sets where only a whole system will do: a root that boots from one, files that are looked at through a mount, and
// destinations and images that fail in the middle of a backup.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MOUNT_STEPS } from '../../ctl/src/backup/steps.js';
import { RemoteElioctl } from '../harness/elioctl.js';
import {
  addressOf,
  agentPort,
  clientTls,
  makeCertificates,
  putCertificates,
} from '../harness/fleet.js';
import { useVm } from '../harness/scenario.js';
import { Vm } from '../harness/vm.js';
import { mkfs } from './driver.js';

const name = 'elio-guest';
const system = 'initramfs-tools';
/** A whole root goes through an emulated machine. */
const slow = { timeoutMs: 900_000 };
const volumes = [
  { type: 'ext4', disk: 'data' },
  { type: 'xfs', disk: 'data-xfs' },
] as const;

describe('backup sets', () => {
  const vm = useVm({
    name: 'backup-sets',
    cpus: 1,
    system,
    forwardPorts: [agentPort],
    disks: [
      { name: 'data', sizeMib: 64 },
      { name: 'data-xfs', sizeMib: 320 },
      { name: 'spare', sizeMib: 80 },
    ],
  });
  let directory = '';

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-backup-sets-'));
    for (const { type, disk } of volumes) {
      const device = vm().disk(disk);
      await vm().sh(`${mkfs(type, device)} && mkdir -p /t/${type} && mount ${device} /t/${type}`);
    }
  });
  after(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it('have a root that boots', async function () {
    this.timeout(slow.timeoutMs);
    const certificates = join(directory, 'tls');
    await makeCertificates(certificates, [name]);
    await vm().sh('mkdir -p /etc/elio/tls');
    await putCertificates(vm(), certificates, name);
    await vm().sh('systemctl restart eliod && echo one > /root/one && sync');
    const elioctl = new RemoteElioctl(addressOf(vm()), clientTls(certificates));
    const set = join(directory, 'root');
    const root = '/dev/disk/by-id/virtio-elio-system';
    const full = await elioctl.backup(root, `${set}/`);
    assert.equal(full.allocated_unknown_reason, '');
    assert.ok(full.skipped_bytes > 0);
    await vm().sh('echo two > /root/two && rm /root/one && sync');
    const next = await elioctl.backup(root, `${set}/`);
    assert.deepEqual([next.type, next.id, next.parent], ['incremental', 2, 1]);
    await elioctl.check('backups', 'check', set);
    const list =
      'cd / && find etc root usr/sbin usr/lib/systemd -type f ! -path "etc/elio/*" -print0 | sort -z | xargs -0 sha256sum | sha256sum';
    const files = await vm().sh(list, slow);

    const restored = await Vm.boot({
      name: 'restored',
      cpus: 1,
      system,
      systemDisk: join(set, '000002.qcow2'),
      logDir: join(directory, 'restored'),
    });
    try {
      assert.equal(await restored.sh('cat /root/two; ls /root/one 2> /dev/null || true'), 'two\n');
      assert.equal(await restored.sh(list, slow), files);
      await restored.sh('touch /root/written && sync');
    } finally {
      await restored.stop();
    }
  });

  for (const { type, disk } of volumes) {
    it(`show the files of a backup of ${type}, and change nothing`, async () => {
      const device = vm().disk(disk);
      const set = `/root/set-${type}`;
      const backups = `elioctl backups`;
      await vm().sh(
        [
          `mkdir -p /mnt/${type} && echo old > /t/${type}/file && sync`,
          `elioctl backup ${device} ${set}/`,
          `echo new > /t/${type}/file && sync`,
          `elioctl backup ${device} ${set}/`,
        ].join(' && '),
        slow,
      );
      const mounted = async (id: number, check: string, end: string): Promise<void> => {
        await vm().sh(
          `${backups} mount ${set}@${id} /mnt/${type} > /tmp/mount.log 2>&1 & pid=$!
           until mountpoint -q /mnt/${type}; do kill -0 $pid || { cat /tmp/mount.log >&2; exit 1; }; sleep 0.2; done
           ${check} || exit 1
           ${end}
           ! mountpoint -q /mnt/${type} && ! ls /sys/block/nbd*/pid 2> /dev/null`,
          slow,
        );
      };
      const interrupt = 'kill -INT $pid && wait $pid || { cat /tmp/mount.log >&2; exit 1; }';
      await mounted(1, `grep -q old /mnt/${type}/file && ! touch /mnt/${type}/x`, interrupt);
      const killed = `kill -9 $pid; wait $pid; ${backups} mount --unmount ${set}@2 /mnt/${type} || exit 1`;
      await mounted(2, `grep -q new /mnt/${type}/file`, killed);
      await vm().sh(`${backups} check ${set}`, slow);
    });
  }

  for (const step of MOUNT_STEPS) {
    it(`leave nothing when somebody interrupts at ${step}`, async () => {
      await vm().sh(
        `ELIO_TEST_STOP_AT=${step} ELIO_TEST_STOP_BY=SIGINT elioctl backups mount /root/set-ext4@1 /mnt/ext4 &&
         ! mountpoint -q /mnt/ext4 && ! ls /sys/block/nbd*/pid 2> /dev/null`,
        slow,
      );
    });
  }

  it('are restored on the machine itself, without an agent, where nothing is lost by it', async () => {
    const [data, spare] = [vm().disk('data'), vm().disk('spare')];
    const restore = 'elioctl restore --local --yes /root/set-ext4';
    const refused = async (target: string, reason: RegExp): Promise<void> => {
      const { status, stderr } = await vm().run(`${restore} ${target}`);
      assert.equal(status, 5, stderr);
      assert.match(stderr, reason);
    };
    await refused(data, /is mounted on \/t\/ext4/);
    await vm().sh('umount /t/ext4');
    await refused(data, /is tracked as snapshot/);
    await vm().sh(`mount ${data} /t/ext4`);
    await vm().sh(
      `echo ';' | sfdisk -q --no-reread ${spare} && udevadm settle && mkswap ${spare}-part1 && swapon ${spare}-part1`,
    );
    await refused(spare, /swap/);
    await vm().sh(`swapoff ${spare}-part1 && wipefs -q -a ${spare}-part1 ${spare}`);
    await vm().sh(
      `systemctl stop eliod && ${restore} ${spare} && systemctl start eliod &&
       mkdir -p /t/spare && mount -o ro ${spare} /t/spare && cmp /t/ext4/file /t/spare/file && umount /t/spare`,
      slow,
    );
    const again = await vm().sh(`${restore} --only-changed --output json ${spare}`, slow);
    assert.match(again, /"sent_bytes":0,/);
  });

  describe('of which the next backup fails', () => {
    const set = '/small/set';
    let device = '';

    async function refused(pattern: RegExp): Promise<void> {
      const { status, stderr } = await vm().run(`elioctl backup ${device} ${set}/`, slow);
      assert.equal(status, 1, stderr);
      assert.match(stderr.trimEnd().split('\n').at(-1) ?? '', pattern);
    }

    /** There is no image any more, and what changes goes on being recorded. */
    async function recorded(): Promise<void> {
      const list = JSON.parse(await vm().sh('elioctl list --output json')) as {
        block_device: string;
        state: string;
        error?: number;
      }[];
      const path = (await vm().sh(`realpath ${device}`)).trim();
      const tracker = list.find((one) => one.block_device === path);
      assert.equal(tracker?.state, 'incremental', JSON.stringify(list));
    }

    /** The chain is what it was, nothing half-made is left, and the device goes on being recorded. */
    async function intact(backupSet: string, backups: number): Promise<void> {
      await vm().sh(`elioctl backups check ${backupSet}`, slow);
      assert.equal((await vm().sh(`ls ${backupSet} | wc -l`)).trim(), String(3 * backups));
      await recorded();
    }

    before(async () => {
      device = vm().disk('data');
      await vm().sh(
        `mkdir -p /small && mount -t tmpfs -o size=24m tmpfs /small && elioctl backup ${device} ${set}/`,
        slow,
      );
    });

    it('are what they were when the destination is full', async () => {
      await vm().sh('head -c 28M /dev/urandom > /t/ext4/large && sync');
      await refused(/\/small\/set.*(full|space)/);
      await intact(set, 1);
      await vm().sh('rm /t/ext4/large && sync && mount -o remount,size=48m /small');
      await vm().sh(
        `elioctl backup --output json ${device} ${set}/ | grep -q '"type":"incremental"'`,
      );
      await intact(set, 2);
    });

    it('are what they were when the destination cannot be written', async () => {
      await vm().sh('mount -o remount,ro /small');
      const { status, stderr } = await vm().run(`elioctl backup ${device} ${set}/`);
      await vm().sh('mount -o remount,rw /small');
      assert.notEqual(status, 0);
      assert.match(stderr, /read-only/i);
      await intact(set, 2);
    });

    it('are what they were when the image fails in the middle of it', async () => {
      const { status, stderr } = await vm().run(
        `head -c 20M /dev/urandom > /t/ext4/large && sync
         elioctl backup -f 2 ${device} ${set}/ 2> /tmp/failed & pid=$!
         until ls ${set}/*.qcow2.partial 2> /dev/null; do kill -0 $pid || exit 9; sleep 0.1; done
         kill -STOP $pid
         until elioctl list --output json | grep -q '"error":-27'; do
           dd if=/dev/urandom of=/t/ext4/large bs=1M count=20 conv=notrunc,fsync status=none
         done
         kill -CONT $pid; wait $pid; status=$?; cat /tmp/failed >&2; exit $status`,
        slow,
      );
      // By the stream or, when the agent has given up on the reader that stood still, by the call for the rest of it.
      assert.ok(status === 1 || status === 5, stderr);
      assert.match(stderr.trimEnd().split('\n').at(-1) ?? '', /-27/);
      await vm().sh(`elioctl backups check ${set} && test $(ls ${set} | wc -l) = 6`, slow);
      await vm().sh('rm /t/ext4/large && sync');
      const next = await vm().sh(`elioctl backup --verify --output json ${device} ${set}/`, slow);
      assert.match(next, /"type":"full"/);
      await intact(set, 3);
    });

    it('are what they were when the disk of the destination is pulled out and comes back', async () => {
      const onDisk = '/gone/set';
      const findDisk =
        'disk=/dev/$(grep -l scsi_debug /sys/block/sd*/device/model | cut -d / -f 4)';
      await vm().sh(
        `modprobe scsi_debug dev_size_mb=96 && udevadm settle && ${findDisk} && mkfs.ext4 -q $disk &&
         mkdir -p /gone && mount $disk /gone && elioctl backup ${device} ${onDisk}/ && sync -f /gone &&
         head -c 20M /dev/urandom > /t/ext4/large && sync`,
        slow,
      );
      const { status, stderr } = await vm().run(
        `elioctl backup ${device} ${onDisk}/ 2> /tmp/failed & pid=$!
         until ls ${onDisk}/*.qcow2.partial 2> /dev/null; do kill -0 $pid || exit 9; sleep 0.1; done
         kill -STOP $pid
         echo 1 > /sys/block/$(basename $(findmnt -no SOURCE /gone))/device/delete
         kill -CONT $pid; wait $pid; status=$?; cat /tmp/failed >&2; exit $status`,
        slow,
      );
      assert.ok(status === 1 || status === 6, stderr);
      const message = stderr.trimEnd().split('\n').at(-1) ?? '';
      assert.match(message, /\/gone\/set.*(input\/output|read-only)/i);
      await recorded();
      await vm().sh(
        `umount /gone && echo '- - -' > /sys/class/scsi_host/host0/scan && udevadm settle && ${findDisk} &&
         mount $disk /gone && elioctl backups check ${onDisk}`,
        slow,
      );
      const next = await vm().sh(
        `elioctl backup --verify --output json ${device} ${onDisk}/`,
        slow,
      );
      assert.match(next, /"type":"incremental"/);
      await intact(onDisk, 2);
    });
  });
});
