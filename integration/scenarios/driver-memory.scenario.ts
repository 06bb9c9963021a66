// SPDX-License-Identifier: Apache-2.0
// Machines with too little memory: a snapshot's own filesystem holds the swap file, more is written than memory holds, and a
// loop device lies on a filesystem that is tracked, both tracked. Nothing gets stuck, and the images stay what they are.
import assert from 'node:assert/strict';
import { defaultKernel, slowness } from '../harness/debian.js';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mountExt4, tests } from './driver.js';

const cowMib = 160;
/** A debug kernel does not fill this memory in 10 s. */
const seconds = slowness(defaultKernel()) * rounds(10, 300);

describe('a machine with too little memory', () => {
  const vm = useVm({
    name: 'memory',
    memoryMib: 512,
    disks: [{ name: 'origin', sizeMib: 448 }],
  });
  let origin = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
  });
  beforeEach(async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh('rm -f /tmp/log*');
  });
  afterEach(async function () {
    if (this.currentTest?.state !== 'passed')
      await vm().run(
        `touch /tmp/enough; pkill stamper; pkill stress-ng; for n in 1 0; do ${tests}/ioctl-tool destroy $n; done; umount /l; losetup -D; swapoff -a`,
      );
    await vm().sh(`umount /t && e2fsck -fn ${origin}`);
  });

  /** Begins a snapshot with writers at work; their log is /tmp/logN of minor N. */
  async function begin(
    minor: number,
    device: string,
    directory: string,
    mib: number,
  ): Promise<void> {
    await vm().sh(
      `${tests}/stamper run /tmp/log${minor} ${minor + 1} 4 1 ${directory}/a,3 buffered:${directory}/b,3`,
    );
    await vm().sh(
      `${tests}/stamper call /tmp/log${minor} call0 ${tests}/ioctl-tool setup ${device} ${directory}/cow ${minor} ${mib} && udevadm settle`,
    );
  }

  /** Ends it: the image is right, and what changed since is known. */
  async function end(minor: number, device: string, directory: string, mib: number): Promise<void> {
    const log = `/tmp/log${String(minor)}`;
    assert.equal((await info(vm(), minor)).error, 0);
    await vm().sh(`${tests}/stampcheck image ${log} call0 /dev/elastio-snap${minor}`);
    await ioctl(vm(), 'inc', minor);
    await vm().sh(
      `${tests}/stamper call ${log} call1 ${tests}/ioctl-tool snap ${directory}/cow1 ${minor} ${mib} && udevadm settle`,
    );
    await vm().sh(
      `${tests}/stampcheck image ${log} call1 /dev/elastio-snap${minor} && ${tests}/stampcheck changed ${log} call0 call1 ${directory}/cow $(blockdev --getsize64 ${device})`,
    );
    await vm().sh(`${tests}/stamper stop ${log}`);
    await ioctl(vm(), 'destroy', minor);
  }

  const writeMuch = `while test ! -e /tmp/enough; do dd if=/dev/zero of=/t/much bs=1M count=24 conv=notrunc; done < /dev/null > /dev/null 2>&1 &`;

  it('keeps its image while memory goes to a swap file on the origin, and more is written than fits', async () => {
    await vm().sh(
      `dd if=/dev/zero of=/t/swap bs=1M count=96 status=none && chmod 600 /t/swap && mkswap -q /t/swap && swapon /t/swap && dd if=/dev/zero of=/t/much bs=1M count=24 status=none && sync`,
    );
    await begin(0, origin, '/t', cowMib);
    // More than there is without the swap file, and less than there is with it; what is cached counts by half only.
    await vm().sh(
      `rm -f /tmp/enough; sync; echo 3 > /proc/sys/vm/drop_caches; ${writeMuch}
       stress-ng --vm 2 --vm-bytes $(awk '/^(MemAvailable|SwapFree)/ { sum += $2 } END { print sum - 40960 }' /proc/meminfo)K --vm-populate --vm-method incdec --verify --timeout ${seconds} > /tmp/stress-ng 2>&1; status=$?; touch /tmp/enough; wait; cat /tmp/stress-ng; exit $status`,
      { timeoutMs: (seconds * 4 + 120) * 1000 },
    );
    const swapped = Number(await vm().sh("awk '/^pswpout/ { print $2 }' /proc/vmstat"));
    assert.ok(swapped > 0, 'nothing was swapped out');
    await end(0, origin, '/t', cowMib);
    await vm().sh('swapoff /t/swap');
  });

  it('keeps its image where its writers have a limit of their own', async () => {
    await vm().sh(
      // Above the first limit its writers wait for memory; above the second newer kernels kill them.
      `echo +memory > /sys/fs/cgroup/cgroup.subtree_control; mkdir -p /sys/fs/cgroup/small && cd /sys/fs/cgroup/small && echo 16M > memory.high && echo 32M > memory.max`,
    );
    await begin(0, origin, '/t', cowMib);
    await vm().sh(
      `(echo $BASHPID > /sys/fs/cgroup/small/cgroup.procs; for n in 1 2 3 4; do dd if=/dev/urandom of=/t/limited bs=64k count=384 conv=notrunc,fsync status=none; done)`,
      { timeoutMs: 300_000 },
    );
    await end(0, origin, '/t', cowMib);
    await vm().sh('rmdir /sys/fs/cgroup/small');
  });

  it('keeps both images of a loop device and of the filesystem that its file is on', async () => {
    await vm().sh(
      `dd if=/dev/zero of=/t/file bs=1M count=64 status=none && modprobe loop && losetup /dev/loop0 /t/file && udevadm settle`,
    );
    await mountExt4(vm(), '/dev/loop0', '/l', '-b 4096');
    await begin(0, origin, '/t', cowMib);
    await begin(1, '/dev/loop0', '/l', 16);
    await vm().sh(
      `rm -f /tmp/enough; ${writeMuch}
       for n in 1 2 3; do dd if=/dev/urandom of=/l/much bs=1M count=6 conv=notrunc status=none; sync /l/much; done; touch /tmp/enough; wait`,
      { timeoutMs: 300_000 },
    );
    await end(1, '/dev/loop0', '/l', 16);
    await end(0, origin, '/t', cowMib);
    await vm().sh('umount /l && e2fsck -fn /dev/loop0 && losetup -d /dev/loop0');
  });
});
