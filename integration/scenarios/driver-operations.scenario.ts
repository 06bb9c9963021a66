// SPDX-License-Identifier: Apache-2.0
// Every kind of operation that changes a device: what it overwrites is preserved in snapshot mode and told in both modes, or it is
// refused.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import {
  changedBlocks,
  checkImage,
  copyImage,
  destroyAndCheckExt4,
  ioctl,
  kernelIsBefore,
  loadDriver,
  tests,
  tryIoctl,
} from './driver.js';

const blockSize = 4096;
/** The filesystem does not reach behind it, so that a device can be written raw there. */
const filesystemMib = 32;
const regions = { snapshot: 36, incremental: 40 };
const regionBlocks = 32;

interface Operation {
  /** The shell command that changes `regionBlocks` blocks of a device from an offset in bytes on. */
  command: (device: string, offset: number, bytes: number) => string;
  /** What the device has there afterwards: nothing that it had before, zeros, or whatever it likes (a discard is a hint). */
  leaves: 'other data' | 'zeros' | 'anything';
}

const dd = (flags: string) => (device: string, offset: number, bytes: number) =>
  `dd if=/dev/urandom of=${device} bs=${bytes} count=1 iflag=fullblock oflag=seek_bytes,${flags} seek=${offset} conv=notrunc,fsync status=none`;
const fio = (options: string) => (device: string, offset: number, bytes: number) =>
  `fio --name=job --filename=${device} --offset=${offset} --size=${bytes} --rw=randwrite --bs=4k --direct=1 --iodepth=8 ` +
  `--ioengine=io_uring --randrepeat=0 --refill_buffers --allow_mounted_write=1 ${options} > /tmp/fio.log`;
const blkdiscard = (option: string) => (device: string, offset: number, bytes: number) =>
  `blkdiscard -f ${option} -o ${offset} -l ${bytes} ${device}`;

describe('operations', () => {
  const vm = useVm({
    name: 'operations',
    cpus: 1,
    disks: [
      { name: 'disk', sizeMib: 48 },
      { name: 'nvme', sizeMib: 48, bus: 'nvme' },
      { name: 'copy', sizeMib: 48 },
    ],
  });

  before(async () => {
    await loadDriver(vm());
  });
  afterEach(async () => {
    await vm().run(
      `${tests}/ioctl-tool destroy 0; umount /t; rmmod elio-test scsi_debug null_blk brd`,
    );
  });

  /** One operation on a device in snapshot and then in incremental mode. */
  async function check(device: string, operation: Operation): Promise<void> {
    await vm().sh(
      `mkfs.ext4 -qF -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard ${device} ${String(filesystemMib)}M && mkdir -p /t && mount ${device} /t`,
    );
    await ioctl(vm(), 'setup', device, '/t/cow', 0, 4);
    await copyImage(vm(), vm().disk('copy'));
    await change(operation, device, regions.snapshot);
    await checkImage(vm(), vm().disk('copy'));
    await ioctl(vm(), 'inc', 0);
    await change(operation, device, regions.incremental);
    await destroyAndCheckExt4(vm(), 0, device);
  }

  async function change(operation: Operation, device: string, mib: number): Promise<void> {
    const offset = mib << 20;
    const bytes = regionBlocks * blockSize;
    const read = (to: string): string =>
      `dd if=${device} of=${to} iflag=direct,skip_bytes,count_bytes bs=64k skip=${offset} count=${bytes} status=none`;
    await vm().sh(
      `${read('/tmp/before')}; ${operation.command(device, offset, bytes)}; sync; ${read('/tmp/after')}`,
    );
    const differing = await differingBlocks('/tmp/before', '/tmp/after', offset);
    if (operation.leaves === 'other data') assert.equal(differing.length, regionBlocks);
    if (operation.leaves === 'zeros') await vm().sh(`cmp -n ${bytes} /tmp/after /dev/zero`);
    const told = await changedBlocks(vm(), 1);
    const isTold = (block: number): boolean =>
      told.some(([first, nr]) => block >= first && block < first + nr);
    assert.deepEqual(
      differing.filter((block) => !isTold(block)),
      [],
    );
  }

  /** Blocks of the device in which two copies of a region differ. */
  async function differingBlocks(a: string, b: string, offset: number): Promise<number[]> {
    const { stdout } = await vm().run(
      `cmp -l ${a} ${b} | awk '{ print int(($1 - 1) / ${blockSize}) }' | uniq`,
    );
    const words = stdout.split('\n').filter((line) => line !== '');
    return words.map((word) => offset / blockSize + Number(word));
  }

  const operations: Readonly<Record<string, Operation>> = {
    'a direct write': { command: dd('direct'), leaves: 'other data' },
    'a write with FUA': { command: dd('direct,dsync'), leaves: 'other data' },
    'a buffered write and a flush': { command: dd('nonblock'), leaves: 'other data' },
    'a write that must not wait (io_uring)': { command: fio(''), leaves: 'other data' },
    'a write of zeros': { command: blkdiscard('-z'), leaves: 'zeros' },
    'a discard': { command: blkdiscard(''), leaves: 'anything' },
  };
  for (const [name, operation] of Object.entries(operations)) {
    it(`${name} is preserved and told`, async () => {
      await check(vm().disk('disk'), operation);
    });
  }

  it('polled writes (io_uring, NVMe) are preserved and told', async () => {
    await vm().sh('modprobe -r nvme && modprobe nvme poll_queues=1 && udevadm settle');
    const nvme = (await vm().sh(`readlink -f ${vm().disk('nvme')}`)).trim();
    assert.match(await vm().sh(`cat /sys/block/${nvme.slice('/dev/'.length)}/queue/io_poll`), /^1/);
    await check(nvme, { command: fio('--hipri=1'), leaves: 'other data' });
  });

  // The disks of the machine take a discard for a hint; this one has nothing left afterwards.
  const erasing: Readonly<Record<string, Operation>> = {
    'a discard that erases': { command: blkdiscard(''), leaves: 'anything' },
    'a secure erase': { command: blkdiscard('--secure'), leaves: 'zeros' },
  };
  for (const [name, operation] of Object.entries(erasing)) {
    it(`${name} is preserved and told`, async () => {
      const disk = '/dev/elio-test0';
      await vm().sh(`insmod ${tests}/elio-test.ko disk_mib=48 && udevadm settle`);
      await vm().sh(`dd if=/dev/urandom of=${disk} bs=1M count=48 oflag=direct status=none`);
      await check(disk, operation);
      // In incremental mode it has gone on to the disk.
      await vm().sh(
        `cmp -n ${regionBlocks * blockSize} -i ${regions.incremental << 20}:0 ${disk} /dev/zero`,
      );
    });
  }

  it('writes with integrity data are preserved and told, and the data stay right', async () => {
    await vm().sh('modprobe scsi_debug dev_size_mb=48 dif=1 dix=1 && udevadm settle');
    const disk =
      (await vm().sh('grep -l scsi_debug /sys/block/sd*/device/model')).split('/')[3] ?? '';
    // This disk's WRITE SAME forgets the integrity data.
    await vm().sh(`echo 0 > $(echo /sys/block/${disk}/device/scsi_disk/*/max_write_same_blocks)`);
    assert.match(await vm().sh(`cat /sys/block/${disk}/integrity/format`), /T10-DIF-TYPE1/);
    await vm().sh(`dd if=/dev/urandom of=/dev/${disk} bs=1M count=48 oflag=direct status=none`);
    await check(`/dev/${disk}`, { command: dd('direct'), leaves: 'other data' });
  });

  it('WRITE SAME is preserved and told, where the kernel has it', async () => {
    await vm().sh('modprobe scsi_debug dev_size_mb=48 lbpws=1 && udevadm settle');
    const disk =
      (await vm().sh('grep -l scsi_debug /sys/block/sd*/device/model')).split('/')[3] ?? '';
    const writeSame: Operation = {
      command: (device, offset, bytes) =>
        `insmod ${tests}/elio-test.ko write_same=${device},${offset / 512},${bytes / 512}; rmmod elio-test`,
      leaves: 'other data',
    };
    if (await kernelIsBefore(vm(), 5, 18)) {
      await vm().sh(`dd if=/dev/urandom of=/dev/${disk} bs=1M count=48 oflag=direct status=none`);
      await check(`/dev/${disk}`, writeSame);
    } else {
      const { status } = await vm().run(`insmod ${tests}/elio-test.ko write_same=/dev/${disk},0,8`);
      assert.notEqual(status, 0);
    }
  });

  it('zoned disks are refused, with the reason', async () => {
    await vm().sh('modprobe null_blk nr_devices=1 gb=1 zoned=1 zone_size=64 && udevadm settle');
    assert.equal(await tryIoctl(vm(), 'setup', '/dev/nullb0', '/cow', 0), 'EOPNOTSUPP');
    await vm().sh('dmesg | grep "/dev/nullb0 cannot be tracked: it is a zoned device"');
  });

  it('disks that write pages without bios are refused, with the reason, where they do', async () => {
    await vm().sh('modprobe brd rd_nr=1 rd_size=49152 && udevadm settle');
    if (await kernelIsBefore(vm(), 6, 3)) {
      assert.equal(await tryIoctl(vm(), 'setup', '/dev/ram0', '/cow', 0), 'EOPNOTSUPP');
      await vm().sh(
        'dmesg | grep "/dev/ram0 cannot be tracked: its driver writes pages without bios"',
      );
    } else {
      await check('/dev/ram0', { command: dd('direct'), leaves: 'other data' });
    }
  });
});
