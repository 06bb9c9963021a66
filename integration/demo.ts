// SPDX-License-Identifier: Apache-2.0
// The main job, for a person who watches: two machines with the real module and agent; each is backed up in full while
// files change, then incrementally, compared with its image byte for byte, and restored to an empty disk.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './harness/cache.js';
import type { BackupResult } from '../ctl/src/backup/backup.js';
import { RemoteElioctl } from './harness/elioctl.js';
import { Fleet, type FleetHost } from './harness/fleet.js';

const hosts = 2;
const diskMib = 1024;
const leastFilesMib = 128;
const mib = 1024 * 1024;
/** The incremental backup has to move less than this part of what the full one moved. */
const largestIncrement = 0.25;

const directory = join(repository, 'build', 'demo');
const startMs = Date.now();

function tell(who: string, what: string): void {
  const seconds = String(Math.round((Date.now() - startMs) / 1000)).padStart(4);
  console.log(`${seconds} s  ${who.padEnd(7)} ${what}`);
}

function inMib(bytes: number): string {
  return `${(bytes / mib).toFixed(1)} MiB`;
}

function movedLine(result: BackupResult): string {
  const rate = result.sent_bytes / mib / Math.max(result.seconds, 0.1);
  return `${result.type} backup: ${inMib(result.sent_bytes)} moved of ${inMib(result.volume_bytes)}, ${rate.toFixed(1)} MiB/s (${result.reason})`;
}

/** One machine from an empty disk to a checked restore. Returns the bytes moved. */
async function mainJob(
  host: FleetHost,
  fleet: Fleet,
): Promise<{ full: number; increment: number }> {
  const { name, vm } = host;
  const elioctl = new RemoteElioctl(host.address, fleet.tls);
  const data = vm.disk('data');
  const spare = vm.disk('spare');
  const backup = join(directory, `${name}.img`);
  const minutes = { timeoutMs: 5 * 60_000 };

  tell(name, `filling an ext4 of ${diskMib} MiB on ${data} with files`);
  await vm.sh(`mkfs.ext4 -q -E nodiscard ${data} && mkdir -p /data && mount ${data} /data`);
  // So many bytes of what is installed on the machine.
  await vm.sh(
    `mkdir /data/kept /data/busy && cd /usr && find bin lib -type f -printf '%s %p\\n' |
       awk '{ n += $1; print $2 } n > ${leastFilesMib + 2} * 1048576 { exit }' |
       xargs cp --parents -t /data/kept && sync`,
    minutes,
  );
  const filesMib = Number(await vm.sh('du -sm --apparent-size /data/kept | cut -f1'));
  if (filesMib < leastFilesMib) throw new Error(`${name} has only ${filesMib} MiB of files`);

  tell(name, `full backup of ${filesMib} MiB of files while a program keeps changing others`);
  const writer = `cd /data/busy; n=0; while :; do
    n=$((n + 1)); head -c 64K /dev/urandom > file$((n % 16)); sync file$((n % 16)); sleep 1; done`;
  await vm.sh(`setsid sh -c '${writer}' < /dev/null > /dev/null 2>&1 & echo $! > /run/writer.pid`);
  const full = await elioctl.backup('--all', data, backup);
  tell(name, movedLine(full));
  // One of its files may be empty when it is stopped: the one that it was about to write.
  await vm.sh(
    'kill -- -$(cat /run/writer.pid); test -s /data/busy/file1 || test -s /data/busy/file2 || { ls -la /data/busy >&2; exit 1; }',
  );
  const { minor } = full;
  tell(name, `minor ${minor} goes on recording which blocks change; no image, no copies`);

  tell(name, 'changing files: some overwritten, some deleted, 8 MiB of new ones');
  await vm.sh(
    `cd /data/kept/bin && rm -f a* b* && for f in c* d*; do [ ! -f $f ] || cat $f >> $f.copy; done
     mkdir /data/new && for n in 1 2 3 4; do head -c 2M /dev/urandom > /data/new/$n; done
     cd /data && find . -type f ! -name ".elio-cow-*" -print0 | sort -z | xargs -0 sha256sum > /tmp/sums && sync`,
    minutes,
  );
  const increment = await elioctl.backup('--all', '--keep-snapshot', data, backup);
  tell(name, movedLine(increment));

  tell(name, 'comparing the backup with the image, block by block');
  await elioctl.check('verify', backup, data);
  tell(name, 'the backup equals the image, byte for byte');
  await elioctl.check('transition-to-incremental', String(minor));

  tell(name, `restoring the backup to ${spare}`);
  await elioctl.check('restore', '--yes', backup, spare);
  await vm.sh(
    `e2fsck -fn ${spare} && mkdir -p /restored && mount -o ro ${spare} /restored &&
     cd /restored && sha256sum --quiet -c /tmp/sums && test $(wc -l < /tmp/sums) -gt 100`,
    minutes,
  );
  tell(name, `the restored filesystem is clean and every file has the checksum it had`);
  await elioctl.check('destroy', String(minor));
  await vm.checkDmesg();
  return { full: full.sent_bytes, increment: increment.sent_bytes };
}

async function demo(): Promise<void> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  tell('fleet', `booting ${hosts} machines, each with the module and an agent behind mTLS`);
  const fleet = await Fleet.start({
    count: hosts,
    directory,
    disks: [
      { name: 'data', sizeMib: diskMib, fill: 'zero' },
      { name: 'spare', sizeMib: diskMib },
    ],
  });
  try {
    const results = await Promise.all(fleet.hosts.map((host) => mainJob(host, fleet)));
    const full = results.reduce((sum, result) => sum + result.full, 0);
    const increment = results.reduce((sum, result) => sum + result.increment, 0);
    console.log(`\nbytes moved: full ${inMib(full)}, incremental ${inMib(increment)}`);
    for (const { full: all, increment: part } of results) {
      if (part > all * largestIncrement)
        throw new Error(
          `an incremental backup moved ${inMib(part)}, more than a quarter of the full ${inMib(all)}`,
        );
    }
  } finally {
    await fleet.stop();
  }
}

try {
  await demo();
  const seconds = Math.round((Date.now() - startMs) / 1000);
  console.log(`VERDICT: passed in ${seconds} s: what was restored is what was there.`);
} catch (error) {
  console.log(`VERDICT: FAILED: ${error instanceof Error ? error.message : String(error)}`);
  console.log(`The logs of the machines are in ${directory}.`);
  process.exitCode = 1;
}
