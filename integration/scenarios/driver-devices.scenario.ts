// SPDX-License-Identifier: Apache-2.0
// Every kind of device that an origin can be, and stacks of them; where there are several, all are tracked at once.
import type { Vm } from '../harness/vm.js';
import { useVm } from '../harness/scenario.js';
import { destroyAndCheckExt4, ioctl, loadDriver, mkfs, tests } from './driver.js';

const cowMib = 8;

/** How to build devices and to take them apart. In the commands A, B and C stand for disks. */
interface Form {
  name: string;
  build: string;
  devices: readonly string[];
  remove?: string;
}

const disks = [
  { name: 'a', sizeMib: 64 },
  { name: 'b', sizeMib: 64 },
  { name: 'c', sizeMib: 64 },
  { name: 'scsi', sizeMib: 40, bus: 'virtio-scsi' },
  { name: 'scsi4096', sizeMib: 40, bus: 'virtio-scsi', blockSize: 4096 },
  { name: 'nvme', sizeMib: 40, bus: 'nvme' },
  { name: 'nvme4096', sizeMib: 40, bus: 'nvme', blockSize: 4096 },
  { name: 'blk4096', sizeMib: 40, blockSize: 4096 },
] as const;

const partitions = (label: string, disk: string): string =>
  `printf 'label: ${label}\\nsize=24MiB\\nsize=24MiB\\n' | sfdisk -q ${disk}`;
// In sync: where two mirrors differ, a block that was never written is not the same at each reading.
const md = (level: number, members: string): string =>
  `modprobe raid${level === 1 ? '1' : '456'} && sysctl -q dev.raid.speed_limit_min=200000 &&
   mdadm --create /dev/md0 --quiet --run --metadata=1.2 --level=${level} --raid-devices=${members.split(' ').length} ${members} &&
   while grep -q resync /proc/mdstat; do sleep 0.2; done`;
const luks = (disk: string): string =>
  `printf secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 ${disk} - && ` +
  `printf secret | cryptsetup open --key-file - ${disk} crypt`;
const lv = (name: string, options: string): string =>
  `lvcreate -qq -y -Wn -n ${name} ${options} vg`;

const lvm = (name: string, ...lvcreate: readonly string[]): Form => ({
  name,
  build: ['vgcreate -qq vg A B C', ...lvcreate].join(' && '),
  devices: lvcreate.map((_, index) => `/dev/vg/lv${index}`),
  remove: 'vgremove -qq -f -y vg',
});

const forms: readonly Form[] = [
  { name: 'virtio-blk disk', build: 'true', devices: ['A'] },
  { name: 'virtio-blk disk with blocks of 4096 bytes', build: 'true', devices: ['BLK4096'] },
  { name: 'virtio-scsi disk', build: 'true', devices: ['SCSI'] },
  { name: 'virtio-scsi disk with blocks of 4096 bytes', build: 'true', devices: ['SCSI4096'] },
  { name: 'NVMe disk', build: 'true', devices: ['NVME'] },
  { name: 'NVMe disk with blocks of 4096 bytes', build: 'true', devices: ['NVME4096'] },
  {
    name: 'MBR partitions',
    build: partitions('dos', 'A'),
    devices: ['A-part1', 'A-part2'],
  },
  {
    name: 'GPT partitions',
    build: partitions('gpt', 'A'),
    devices: ['A-part1', 'A-part2'],
  },
  {
    name: 'loop device and its partitions',
    build: `modprobe loop; truncate -s 64M /tmp/file && ${partitions('gpt', '/tmp/file')} && losetup -P /dev/loop0 /tmp/file`,
    devices: ['/dev/loop0p1', '/dev/loop0p2'],
    remove: 'losetup -d /dev/loop0 && rm /tmp/file',
  },
  lvm('LVM, linear', lv('lv0', '-Zn -L 24M'), lv('lv1', '-Zn -L 24M')),
  lvm('LVM, striped', lv('lv0', '-Zn -L 40M -i 2 -I 64k')),
  lvm('LVM, mirrored (raid1)', lv('lv0', '-Zn -L 40M --type raid1 -m 1')),
  lvm('LVM, mirrored (mirror)', lv('lv0', '-Zn -L 40M --type mirror -m 1 --mirrorlog core')),
  // Without zeroing, blocks that were never written change when one beside them is.
  lvm('LVM, thin', lv('lv0', '-Zy --type thin -L 48M -V 40M --thinpool pool')),
  {
    name: 'md RAID 0',
    build: md(0, 'A B'),
    devices: ['/dev/md0'],
    remove: 'mdadm -q --stop /dev/md0',
  },
  {
    name: 'md RAID 1',
    build: md(1, 'A B'),
    devices: ['/dev/md0'],
    remove: 'mdadm -q --stop /dev/md0',
  },
  {
    name: 'md RAID 5',
    build: md(5, 'A B C'),
    devices: ['/dev/md0'],
    remove: 'mdadm -q --stop /dev/md0',
  },
  {
    name: 'md RAID 10',
    build: md(10, 'A B C'),
    devices: ['/dev/md0'],
    remove: 'mdadm -q --stop /dev/md0',
  },
  {
    name: 'LUKS',
    build: luks('A'),
    devices: ['/dev/mapper/crypt'],
    remove: 'cryptsetup close crypt',
  },
  {
    name: 'multipath',
    build: `modprobe scsi_debug dev_size_mb=40 add_host=2 vpd_use_hostno=0 && modprobe -a dm-multipath dm-round-robin && udevadm settle &&
      set -- $(grep -l scsi_debug /sys/block/sd*/device/model | cut -d / -f 4) &&
      dmsetup create multi --table "0 $(blockdev --getsz /dev/$1) multipath 0 0 1 1 round-robin 0 2 1 /dev/$1 1 /dev/$2 1"`,
    devices: ['/dev/mapper/multi'],
    remove: 'dmsetup remove multi && modprobe -r scsi_debug',
  },
  {
    name: 'LVM on LUKS on md RAID 1',
    build: `${md(1, 'A B')} && ${luks('/dev/md0')} && vgcreate -qq vg /dev/mapper/crypt && ${lv('lv0', '-Zn -L 32M')}`,
    devices: ['/dev/vg/lv0'],
    remove: 'vgremove -qq -f -y vg && cryptsetup close crypt && mdadm -q --stop /dev/md0',
  },
];

/** A device of a form that is tracked. */
class Origin {
  readonly image: string;
  readonly directory: string;
  readonly copy: string;

  constructor(
    private readonly vm: Vm,
    readonly device: string,
    readonly minor: number,
  ) {
    this.image = `/dev/elastio-snap${minor}`;
    this.directory = `/t${minor}`;
    this.copy = `/tmp/copy${minor}`;
  }

  async make(): Promise<void> {
    await this.vm.sh(
      `${mkfs('ext4', this.device, '-b 4096')} && mkdir -p ${this.directory} && mount ${this.device} ${this.directory} &&
       head -c 4M /dev/urandom > ${this.directory}/data && cp -r /etc/udev ${this.directory} && sync`,
    );
  }

  async setUp(): Promise<void> {
    await ioctl(this.vm, 'setup', this.device, `${this.directory}/cow1`, this.minor, cowMib);
    await this.vm.sh(
      `test "$(blockdev --getss ${this.image})" = "$(blockdev --getss ${this.device})" &&
       grep -qx 'write through' /sys/block/elastio-snap${this.minor}/queue/write_cache &&
       ${tests}/imagecheck extents ${this.directory}/cow1 > /tmp/first${this.minor} && cp --sparse=never ${this.image} ${this.copy}`,
    );
  }

  async write(): Promise<void> {
    const data = `${this.directory}/data`;
    await this.vm.sh(
      `dd if=/dev/urandom of=${data} bs=1M count=2 oflag=direct conv=notrunc iflag=fullblock status=none &&
       dd if=/dev/urandom of=${data} bs=64k seek=$((RANDOM % 30)) count=8 conv=notrunc status=none &&
       dd if=/dev/urandom of=${data} bs=4k seek=$((700 + RANDOM % 300)) count=20 oflag=direct conv=notrunc status=none &&
       cp -r /etc/ssl ${this.directory}/new$RANDOM && sync`,
    );
  }

  async checkImage(): Promise<void> {
    await this.vm.sh(`${tests}/imagecheck same ${this.image} ${this.copy}`);
  }

  async checkChanges(): Promise<void> {
    const cow = `${this.directory}/cow`;
    await ioctl(this.vm, 'inc', this.minor);
    await this.write();
    await ioctl(this.vm, 'snap', `${cow}2`, this.minor, cowMib);
    await this.vm.sh(
      `${tests}/imagecheck extents ${cow}2 > /tmp/second${this.minor} &&
       ${tests}/imagecheck changed ${this.copy} ${this.image} ${cow}1 /tmp/first${this.minor} /tmp/second${this.minor}`,
    );
  }

  async end(): Promise<void> {
    await destroyAndCheckExt4(this.vm, this.minor, this.device);
    await this.vm.sh(`rm ${this.copy}`);
  }
}

describe('devices', () => {
  const vm = useVm({ name: 'devices', cpus: 1, disks });

  before(async () => {
    await loadDriver(vm());
    await vm().sh(
      `printf 'activation { monitoring = 0 }\\nglobal { thin_check_executable = "" }\\n' > /etc/lvm/lvmlocal.conf`,
    );
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'passed') return;
    await vm().run(
      `for n in 0 1; do ${tests}/ioctl-tool destroy $n; umount /t$n; done; udevadm settle; vgremove -qq -f -y vg; cryptsetup close crypt
       dmsetup remove_all; mdadm --stop --scan; losetup -D; modprobe -r scsi_debug`,
    );
  });

  function withDisks(text: string): string {
    return text.replaceAll(/\b(A|B|C|SCSI|SCSI4096|NVME|NVME4096|BLK4096)\b/g, (name) =>
      vm().disk(name.toLowerCase()),
    );
  }

  for (const form of forms) {
    it(`${form.name}: image and changes are right`, async () => {
      await vm().sh(withDisks(`wipefs -qa A B C; { ${form.build}; } && udevadm settle`));
      const origins = form.devices.map(
        (device, minor) => new Origin(vm(), withDisks(device), minor),
      );
      for (const origin of origins) await origin.make();
      for (const origin of origins) await origin.setUp();
      for (const origin of origins) await origin.write();
      for (const origin of origins) await origin.checkImage();
      for (const origin of origins) await origin.checkChanges();
      for (const origin of origins) await origin.end();
      await vm().sh(withDisks(`udevadm settle; ${form.remove ?? 'true'}`));
    });
  }
});
