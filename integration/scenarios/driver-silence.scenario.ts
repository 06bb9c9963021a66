// SPDX-License-Identifier: Apache-2.0
// An origin of which a part does not answer, below a file or below the COW file: what does not need it goes on, in the end
// without the snapshot, and nothing is given away that is still to be written to.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mkfs, states, tests, tryIoctl } from './driver.js';
import { linear, loadTable } from './mapped.js';
import { udevControl } from './udev.js';

// A flush of a mapped device waits for all of its parts.
const mount = 'mount -t ext4 -o nobarrier';

describe('an origin of which a part does not answer', () => {
  const vm = useVm({
    name: 'silence',
    disks: [
      { name: 'one', sizeMib: 64 },
      { name: 'two', sizeMib: 64 },
    ],
  });

  before(async () => {
    await loadDriver(vm());
    await vm().sh('modprobe -a dm-mod dm-flakey dm-delay');
  });

  /** A filesystem on a device that lies on a disk, as other devices of the same place do: its parts can be moved to these. */
  class Origin {
    readonly device: string;
    readonly directory: string;
    readonly disk: string;

    constructor(
      readonly name: string,
      readonly minor: number,
    ) {
      this.device = `/dev/mapper/${name}`;
      this.directory = `/t/${name}`;
      this.disk = vm().disk(name);
    }

    async setUp(): Promise<void> {
      await this.#make(this.name, 'linear', '');
      await this.#make(`${this.name}-silent`, 'linear', '');
      await this.#make(`${this.name}-failing`, 'flakey', '0 3600 1 error_writes');
      await vm().sh(
        `${mkfs('ext4', this.device, '-b 4096')} && mkdir -p ${this.directory} && ${mount} ${this.device} ${this.directory}`,
      );
      await vm().sh(
        `cd ${this.directory} && for file in old other; do head -c 4M /dev/urandom > $file; done; sync`,
      );
      await ioctl(vm(), 'setup', this.device, `${this.directory}/cow`, this.minor, 16);
    }

    async #make(name: string, target: string, options: string): Promise<void> {
      await vm().sh(
        `dmsetup create ${name} --table "0 $(blockdev --getsz ${this.disk}) ${target} ${this.disk} 0 ${options}" && udevadm settle`,
      );
    }

    /** The first MiB of a file lies on a device that does not answer, and the rest on one that answers if `rest` is none. */
    async silence(file: string, rest?: 'failing'): Promise<void> {
      const { name, disk, directory } = this;
      const mib = 2048;
      const others = rest === undefined ? disk : `/dev/mapper/${name}-${rest}`;
      await vm().sh(
        `${tests}/imagecheck extents ${directory}/${file} | awk '{ print $1, $2, at + 0; at += $2 }' | sort -n |
         awk -v size=$(blockdev --getsz ${disk}) '
           function part(to, on) { if (to > at) { print at + 0, to - at, "linear", on, at + 0; at = to } }
           { part($1, "${disk}"); if ($3 < ${mib}) part($1 + ($2 < ${mib} - $3 ? $2 : ${mib} - $3), "/dev/mapper/${name}-silent"); part($1 + $2, "${others}") }
           END { part(size, "${disk}") }' > /tmp/table`,
      );
      await loadTable(vm(), name, '/tmp/table');
      await vm().sh(`dmsetup suspend --nolockfs ${name}-silent`);
      if (rest !== undefined) await vm().sh(`dmsetup suspend --nolockfs ${name}-${rest}`);
    }

    async answer(part: 'silent' | 'failing'): Promise<void> {
      await vm().sh(`dmsetup resume ${this.name}-${part}`);
    }

    /** Nothing holds the origin any more, and its filesystem is sound. */
    async tearDown(): Promise<void> {
      const { name, disk, device, directory } = this;
      await loadTable(vm(), name, linear(disk));
      await ioctl(vm(), 'destroy', this.minor);
      await vm().sh(
        `umount ${directory} && e2fsck -fn ${device} && udevadm settle && dmsetup remove --retry ${name} ${name}-silent ${name}-failing`,
      );
    }
  }

  /** Starts a command whose exit status is in /tmp/NAME when it has ended. */
  function inBackground(name: string, command: string): string {
    return `rm -f /tmp/${name}; { ${command}; echo $? > /tmp/${name}; } < /dev/null > /dev/null 2>&1 &`;
  }

  it('is not given to who mounts it again while its snapshot that has failed writes to it', async () => {
    const origin = new Origin('one', 0);
    await origin.setUp();
    await origin.silence('cow', 'failing');
    // The saves begin in the first part of the COW file, which is silent, and go on in the part that fails later.
    await vm().sh(
      'head -c 2M /dev/urandom | dd of=/t/one/old bs=1M oflag=direct iflag=fullblock conv=notrunc status=none',
    );
    await vm().sh(inBackground('umount', 'umount /t/one'));
    await vm().sh(
      'until grep -q esnap_copy_drain /proc/$(pgrep -x umount)/stack; do test ! -e /tmp/umount || exit 1; sleep 0.1; done',
    );
    await origin.answer('failing');
    await vm().sh(
      `until ${tests}/ioctl-tool info 0 | grep -q '"error":-5'; do test ! -e /tmp/umount || exit 1; sleep 0.1; done`,
    );
    await vm().sh(inBackground('mount', `${mount} /dev/mapper/one /t/one`));
    // Later kernels do not let it come as far as to us.
    await vm().sh(
      `until test -e /tmp/mount || grep -Eq 'esnap_tracker_take|super_lock|grab_super|sget' /proc/$(pgrep -x mount)/stack; do sleep 0.1; done
       test ! -e /tmp/mount && test ! -e /tmp/umount`,
    );
    await origin.answer('silent');
    await vm().sh(
      'until test -s /tmp/umount && test -s /tmp/mount; do sleep 0.1; done; test "$(cat /tmp/umount /tmp/mount)" = "$(printf "0\\n0")"',
    );
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [states.snapshot, -5]);
    await vm().sh('sha256sum /t/one/old /t/one/other && rm /t/one/cow && sync');
    await origin.tearDown();
  });

  // Then nobody keeps the device: it can be removed, and what is read from it would end nowhere.
  it('is not read any more for a write that has ended, where it is not mounted and its snapshot fails', async () => {
    const disk = vm().disk('two');
    const slowly = (ms: number): string =>
      `--table "0 $(blockdev --getsz ${disk}) delay ${disk} 0 ${ms} ${disk} 0 0"`;
    const origin = '/dev/mapper/above';
    const limit = '/sys/module/elastio_snap/parameters/pending_max_mib';
    const overwrite = (at: number | string, nr: number): string =>
      `dd if=/dev/zero of=${origin} bs=$((${nr} * 4096)) seek=$((first + (${at}) * 4096)) count=1 oflag=direct,seek_bytes conv=notrunc status=none`;
    await vm().sh(
      `dmsetup create below ${slowly(0)} && dmsetup create above ${linear('/dev/mapper/below')} && udevadm settle &&
       ${mkfs('ext4', origin, '-b 4096')} && mkdir -p /t/two && mount ${origin} /t/two && fallocate -l 6M /t/two/file && sync`,
    );
    await ioctl(vm(), 'setup', origin, '/t/two/cow', 1, 24);
    const [sector = ''] = (await vm().sh(`${tests}/imagecheck extents /t/two/file`)).split(' ');
    // All but six blocks of the memory are used up; of the first sixteen two are saved.
    await vm().sh(
      `umount /t/two && echo 4 > ${limit} && first=$((${sector} * 512)) && ${overwrite(4, 1)} && ${overwrite(8, 1)} &&
       for n in $(seq 4); do ${overwrite('$n * 256', 254)}; done`,
    );
    const { state, error } = await info(vm(), 1);
    assert.deepEqual([state, error], [states.dormantSnapshot, 0]);
    // udev reads what is new, or was written to.
    const reading = await vm().sh(
      `${udevControl('stop-exec-queue')}; dmsetup suspend --nolockfs below && dmsetup load below ${slowly(3000)} && dmsetup resume --noudevsync below &&
       first=$((${sector} * 512)) && ${overwrite(0, 16)} && awk '{ print $1 }' /sys/block/$(basename $(readlink -f ${origin}))/inflight`,
    );
    assert.equal(reading, '0\n');
    await vm().sh(
      `dmsetup remove --noudevsync above; ${udevControl('start-exec-queue')}; udevadm settle`,
    );
    await vm().sh('! dmsetup info above 2> /dev/null && dmsetup remove below');
    assert.equal((await info(vm(), 1)).error, -12);
    await ioctl(vm(), 'destroy', 1);
    await vm().sh(`echo 64 > ${limit}`);
  });

  it('does not hold up its disk, or who takes a snapshot, for a read of another partition', async () => {
    const disk = vm().disk('one');
    const half = 65536;
    // A loop device has a queue of requests, and with direct I/O they do not wait for each other.
    await vm().sh(
      `modprobe loop && dmsetup create silent ${linear(disk)} &&
       printf '0 ${half} linear ${disk} 0\n${half} ${half} linear /dev/mapper/silent ${half}\n' | dmsetup create halves && udevadm settle &&
       printf 'start=2048, size=61440\nstart=${half}\n' | sfdisk -q /dev/mapper/halves --no-tell-kernel &&
       losetup -P --direct-io=on /dev/loop0 /dev/mapper/halves && udevadm settle &&
       ${mkfs('ext4', '/dev/loop0p1', '-b 4096')} && mkdir -p /t/one && ${mount} /dev/loop0p1 /t/one`,
    );
    const silently = async (call: () => Promise<string>): Promise<void> => {
      await vm().sh('dmsetup suspend --nolockfs silent');
      await vm().sh(
        inBackground('read', 'dd if=/dev/loop0p2 of=/dev/null bs=4k count=1 iflag=direct'),
      );
      await vm().sh(
        'until test $(cat /sys/block/loop0/inflight | tr -s " " + | sed s/^+//) != 0+0; do sleep 0.1; done',
      );
      assert.equal(await call(), 'ETIMEDOUT');
      await vm().sh('test ! -e /tmp/read && dmsetup resume silent');
      await vm().sh('until test -s /tmp/read; do sleep 0.1; done; grep -x 0 /tmp/read');
    };
    const write = 'head -c 1M /dev/urandom > /t/one/file && sync /t/one/file';

    await silently(async () => {
      const outcome = await tryIoctl(vm(), 'setup', '/dev/loop0p1', '/t/one/cow', 0, 4);
      await vm().sh(`test ! -e /t/one/cow && ${write}`);
      return outcome;
    });
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');

    await ioctl(vm(), 'setup', '/dev/loop0p1', '/t/one/cow', 0, 4);
    await ioctl(vm(), 'inc', 0);
    await silently(async () => {
      const outcome = await tryIoctl(vm(), 'snap', '/t/one/cow2', 0, 4);
      await vm().sh(`test ! -e /t/one/cow2 && ${write}`);
      return outcome;
    });
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [states.incremental, 0]);
    await ioctl(vm(), 'snap', '/t/one/cow2', 0, 4);
    await ioctl(vm(), 'destroy', 0);

    await vm().sh('umount /t/one');
    await silently(() => tryIoctl(vm(), 'reload-snap', '/dev/loop0p1', '/cow', 0));
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
    await vm().sh(
      'e2fsck -fn /dev/loop0p1 && losetup -d /dev/loop0 && udevadm settle && dmsetup remove --retry halves && dmsetup remove --retry silent',
    );
  });

  it('fails its snapshot after two minutes, and writes elsewhere go on', async () => {
    const reads = new Origin('one', 0);
    const stores = new Origin('two', 1);
    await reads.setUp();
    await stores.setUp();
    // The kernel would tell of who waits for so long.
    await vm().sh(
      'echo 1 > /sys/module/elastio_snap/parameters/pending_max_mib; sysctl -qw kernel.hung_task_timeout_secs=0',
    );
    await reads.silence('old');
    await stores.silence('cow');
    const overwrite = (file: string, mib: number): string =>
      `dd if=/dev/urandom of=${file} bs=1M count=${mib} iflag=fullblock oflag=direct conv=notrunc status=none`;
    // As many reads are under way as may be in memory.
    await vm().sh(inBackground('silent', overwrite('/t/one/old', 1)));
    await Promise.all(
      [[reads, '/t/one/other'] as const, [stores, '/t/two/old'] as const].map(
        async ([origin, file]) => {
          await vm().sh(overwrite(file, 4), { timeoutMs: 400_000 });
          assert.equal((await info(vm(), origin.minor)).error, -110);
        },
      ),
    );
    await vm().sh('test ! -e /tmp/silent');
    await reads.answer('silent');
    await stores.answer('silent');
    await vm().sh('until test -s /tmp/silent; do sleep 0.1; done; grep -x 0 /tmp/silent');
    await reads.tearDown();
    await stores.tearDown();
    await vm().sh('echo 64 > /sys/module/elastio_snap/parameters/pending_max_mib');
  });
});
