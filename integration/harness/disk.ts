// SPDX-License-Identifier: Apache-2.0
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { artifact } from './cache.js';
import { checkCommand } from './process.js';

/** A scratch disk of a guest. */
export interface DiskSpec {
  /** Its serial number in the guest; at most 20 characters of [a-z0-9-]. */
  name: string;
  sizeMib: number;
  /** What a read returns before the first write: a non-zero pattern, unlike in every sector (default), or zeros. */
  fill?: 'pattern' | 'zero';
  /** Logical and physical block size in bytes, 512 by default. */
  blockSize?: 512 | 4096;
  bus?: 'virtio-blk' | 'virtio-scsi' | 'nvme';
}

const mib = 1024 * 1024;
const sectorSize = 512;

/** Makes the file of a disk in a directory and returns QEMU's arguments for it. */
export async function diskArguments(disk: DiskSpec, directory: string): Promise<string[]> {
  const file = join(directory, `${disk.name}.qcow2`);
  const create = ['qemu-img', 'create', '-q', '-f', 'qcow2'];
  if (disk.fill !== 'zero') create.push('-b', await patternFile(disk.sizeMib), '-F', 'raw');
  await checkCommand([...create, file, `${String(disk.sizeMib)}M`]);

  const { name } = disk;
  const blockSize = String(disk.blockSize ?? 512);
  const device = `drive=${name},serial=${name},logical_block_size=${blockSize},physical_block_size=${blockSize}`;
  const drive = [
    '-drive',
    `if=none,id=${name},file=${file},format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=off`,
  ];
  switch (disk.bus ?? 'virtio-blk') {
    case 'virtio-blk':
      return [...drive, '-device', `virtio-blk-pci,${device}`];
    case 'virtio-scsi':
      return [
        ...drive,
        '-device',
        `virtio-scsi-pci,id=bus-${name}`,
        '-device',
        `scsi-hd,bus=bus-${name}.0,${device}`,
      ];
    case 'nvme':
      return [...drive, '-device', `nvme,${device}`];
  }
}

/** The name that udev gives a disk in the guest. */
export function diskPath(disk: DiskSpec): string {
  const prefix = {
    'virtio-blk': 'virtio-',
    'virtio-scsi': 'scsi-0QEMU_QEMU_HARDDISK_',
    nvme: 'nvme-QEMU_NVMe_Ctrl_',
  }[disk.bus ?? 'virtio-blk'];
  return `/dev/disk/by-id/${prefix}${disk.name}`;
}

/** A raw file of at least `sizeMib` of pattern, shared by all disks as their backing file. */
async function patternFile(sizeMib: number): Promise<string> {
  const fileMib = Math.max(1024, 2 ** Math.ceil(Math.log2(sizeMib)));
  const directory = await artifact(`pattern-${String(fileMib)}`, ['2'], async (out) => {
    const file = await open(join(out, 'disk'), 'w');
    const chunk = Buffer.alloc(mib);
    for (let index = 0; index < chunk.length; index++) chunk[index] = 1 + ((index * 167) % 255);
    for (let number = 0; number < fileMib; number++) {
      for (let offset = 0; offset < mib; offset += sectorSize)
        writeNumber(chunk, offset, number * 2048 + offset / sectorSize);
      await file.write(chunk);
    }
    await file.close();
  });
  return join(directory, 'disk');
}

/** Writes a sector's number in five digits of base 255, none of them zero. */
function writeNumber(chunk: Buffer, offset: number, sector: number): void {
  let rest = sector;
  for (let digit = 0; digit < 5; digit++) {
    chunk[offset + digit] = 1 + (rest % 255);
    rest = Math.floor(rest / 255);
  }
}
