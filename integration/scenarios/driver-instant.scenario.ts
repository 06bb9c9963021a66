// SPDX-License-Identifier: Apache-2.0
// Stamped sectors (integration/guest/stamper.c) are written from before to after every set-up and transition: an image has
// nothing that is newer than its instant and nothing older, and no change between two instants is missed.
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { destroyAndCheckExt4, ioctl, loadDriver, mountExt4, tests } from './driver.js';

const cowMib = 24;
const partitionStart = 2048;
const delayMs = 3000;

describe('the instant of a snapshot', () => {
  const vm = useVm({
    name: 'instant',
    disks: [
      { name: 'origin', sizeMib: 96 },
      { name: 'slow', sizeMib: 56 },
    ],
  });
  let partition = '';
  let makeSlow = '';
  let seed = 0;

  before(async () => {
    await loadDriver(vm());
    const disk = vm().disk('origin');
    await vm().sh(`${makePartition(disk)} && udevadm settle`);
    partition = `${disk}-part1`;
    const slow = vm().disk('slow');
    makeSlow = `modprobe -a dm-mod dm-delay && dmsetup create slow --table "0 $(blockdev --getsz ${slow}) linear ${slow} 0"`;
    await mountExt4(vm(), partition, '/t');
  });
  beforeEach(async () => {
    seed += 1;
    await vm().sh('rm -f /tmp/log');
  });

  // Only after a failure is there anything left to end: it must not be the others' failure, too.
  afterEach(async () => {
    await vm().run(
      `test ! -e /tmp/log || timeout 60 ${tests}/stamper stop /tmp/log; ${tests}/ioctl-tool destroy 0; rm -f /t/[abc] /t/cow*`,
    );
  });

  function makePartition(disk: string): string {
    return `printf 'label: dos\\nstart=${partitionStart}, type=83\\n' | sfdisk -q ${disk}`;
  }

  /**
   * An ioctl that begins a snapshot while the writers go on, its begin and end in their log. The image has the instant's content, and
   * still has it when the writers have gone on. With `againMs` all of the image, also what bears no stamps, is kept at once, and is the
   * same so long after that: what was on its way at the instant has landed then.
   */
  async function callAndCheck(
    againMs: number | undefined,
    name: string,
    ...words: (string | number)[]
  ): Promise<void> {
    const image = '/dev/elastio-snap0';
    const call = `${tests}/stamper call /tmp/log ${name} ${tests}/ioctl-tool ${words.join(' ')}`;
    const look = `${tests}/stampcheck image /tmp/log ${name} ${image}`;
    const [keep, compare] =
      againMs === undefined
        ? ['true', 'true']
        : [
            `dd if=${image} of=/tmp/once bs=1M iflag=direct status=none`,
            `sleep ${againMs / 1000} && ${tests}/imagecheck same ${image} /tmp/once`,
          ];
    await vm().sh(`${call} && ${keep}`);
    await vm().sh(look);
    await vm().sh(`${compare} && ${look} && udevadm settle`);
  }

  async function checkRounds(
    targets: string,
    threads: number,
    align: number,
    {
      origin = partition,
      last = rounds(4, 100, 2),
      begun = (): Promise<void> => Promise.resolve(),
      againMs,
    }: { origin?: string; last?: number; begun?: () => Promise<void>; againMs?: number } = {},
  ): Promise<void> {
    const size = (await vm().sh(`blockdev --getsize64 ${origin}`)).trim();
    await vm().sh(`${tests}/stamper run /tmp/log ${seed} ${threads} ${align} ${targets}`);
    await begun();
    await callAndCheck(againMs, 'call0', 'setup', origin, '/t/cow0', 0, cowMib);
    for (let round = 1; round <= last; round += 1) {
      await ioctl(vm(), 'inc', 0);
      await callAndCheck(againMs, `call${round}`, 'snap', `/t/cow${round}`, 0, cowMib);
      await vm().sh(
        `${tests}/stampcheck changed /tmp/log call${round - 1} call${round} /t/cow${round - 1} ${size} && rm /t/cow${round - 1}`,
      );
    }
    await vm().sh(`${tests}/stamper stop /tmp/log`);
    // Read past the page cache of the partition, which knows nothing of writes through the disk.
    await vm().sh(`sync; ${tests}/stampcheck origin /tmp/log ${origin}`);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('rm -f /t/a /t/b /t/c');
  }

  it('holds for writers of files, whole blocks and sectors, while others use the filesystem', async () => {
    await vm().sh(
      `mkdir /t/busy && { ${tests}/churn /t/busy ${seed} < /dev/null > /tmp/churn.log 2>&1 & echo $! > /run/churn; }`,
    );
    // Others write what bears no stamps.
    await checkRounds('/t/a,4 /t/b,6', 4, 1, { againMs: 0 });
    await vm().sh('kill $(cat /run/churn)');
  });

  it('holds for writers through the page cache, through mapped memory and many at a time, all at once', async () => {
    await checkRounds('buffered:/t/a,4 mapped:/t/b,4 uring:/t/c,4', 3, 1);
  });

  it('holds for writers that go through the whole disk', async () => {
    const whole = `${vm().disk('origin')},${partitionStart}`;
    await checkRounds(`/t/a,4 /t/b,4,${whole} uring:/t/c,4,${whole}`, 6, 1);
  });

  // What the reader asks of the origin waits in the block layer, longer than the write takes.
  it('holds for a read of the image that a write overtakes', async () => {
    const group = '/sys/fs/cgroup/slow';
    await vm().sh('head -c 64K /dev/urandom > /t/old && sync');
    const [sector = ''] = (await vm().sh(`${tests}/imagecheck extents /t/old`)).split(' ');
    const read = `dd if=/dev/elastio-snap0 bs=4k skip=$((${sector} * 512)) count=16 iflag=direct,skip_bytes status=none`;
    await ioctl(vm(), 'setup', partition, '/t/cow', 0, cowMib);
    await vm().sh(`set -e; ${read} > /tmp/old; cmp /tmp/old /t/old
      echo +io > /sys/fs/cgroup/cgroup.subtree_control; mkdir ${group}
      echo $(cat /sys/class/block/$(basename $(readlink -f ${vm().disk('origin')}))/dev) riops=2 > ${group}/io.max
      (echo $BASHPID > ${group}/cgroup.procs; ${read} > /tmp/read) &
      sleep 3; dd if=/dev/zero of=/t/old bs=64k count=1 oflag=direct conv=notrunc status=none
      kill -0 $!; wait $!; rmdir ${group}; cmp /tmp/read /tmp/old`);
    await ioctl(vm(), 'destroy', 0);
  });

  it('leaves the filesystem clean', async () => {
    await ioctl(vm(), 'setup', partition, '/t/cow', 0, cowMib);
    await vm().sh('mkdir /image && mount -o ro /dev/elastio-snap0 /image && ls /image > /dev/null');
    await vm().sh('umount /image && e2fsck -fn /dev/elastio-snap0');
    await destroyAndCheckExt4(vm(), 0, partition);
  });

  /** From now on writes to the blocks of /t/b take their time; all others, the filesystem's and the driver's, and flushes do not. */
  async function slowDown(originStart: number): Promise<void> {
    const disk = vm().disk('slow');
    await vm().sh(
      `${tests}/imagecheck extents /t/b | sort -n | awk -v size=$(blockdev --getsz ${disk}) '
         function fast(to) { if (to > at) print at + 0, to - at, "linear ${disk}", at + 0 }
         { first = $1 + ${originStart}; fast(first); print first, $2, "delay ${disk}", first, "0 ${disk}", first, "${delayMs} ${disk}", first, 0; at = first + $2 }
         END { fast(size) }' > /tmp/table && dmsetup suspend --nolockfs slow && dmsetup load slow /tmp/table && dmsetup resume slow`,
    );
  }

  // Each raw write passes the driver long before it lands, so that some are under way at every instant.
  it('holds for raw writes to a mapped device that takes its time', async () => {
    const slow = '/dev/mapper/slow';
    await vm().sh(makeSlow);
    await mountExt4(vm(), slow, '/t', '-b 4096');
    const targets = `/t/a,2 /t/b,2,${slow},0`;
    const begun = (): Promise<void> => slowDown(0);
    await checkRounds(targets, 4, 8, {
      origin: slow,
      last: rounds(2, 100),
      begun,
      againMs: delayMs,
    });
    await vm().sh(`umount /t && e2fsck -fn ${slow} && udevadm settle; dmsetup remove slow`);
  });

  it('holds for raw writes to the whole of a disk that takes its time', async () => {
    await vm().sh(
      `${makeSlow} && ${makePartition('/dev/mapper/slow')}; modprobe loop && losetup --direct-io=on -P /dev/loop0 /dev/mapper/slow && udevadm settle`,
    );
    await mountExt4(vm(), '/dev/loop0p1', '/t', '-b 4096');
    const targets = `/t/a,2 /t/b,2,/dev/loop0,${partitionStart}`;
    // Two transitions each.
    const begun = (): Promise<void> => slowDown(partitionStart);
    await checkRounds(targets, 4, 8, {
      origin: '/dev/loop0p1',
      last: rounds(2, 500),
      begun,
      againMs: delayMs,
    });
    await vm().sh(
      'umount /t && e2fsck -fn /dev/loop0p1 && udevadm settle; losetup -d /dev/loop0 && until dmsetup remove slow; do sleep 0.2; done',
    );
  });
});
