// SPDX-License-Identifier: Apache-2.0
// FS_IOC_FIEMAP: where a file is on its device.
import { open } from 'node:fs/promises';
import { ioctl } from './ioctl.js';

const FS_IOC_FIEMAP = 0xc020660b;
const FIEMAP_EXTENT_LAST = 1;
const HEADER_SIZE = 32;
const EXTENT_SIZE = 56;
const EXTENTS_AT_ONCE = 512;

/** A range of the device, in bytes. */
export interface DeviceExtent {
  offsetBytes: bigint;
  lengthBytes: bigint;
}

/** The extents of a file, in the order of the file. */
export async function fileExtents(path: string): Promise<DeviceExtent[]> {
  const file = await open(path, 'r');
  const extents: DeviceExtent[] = [];
  try {
    for (let start = 0n, last = false; !last;) {
      const buffer = Buffer.alloc(HEADER_SIZE + EXTENTS_AT_ONCE * EXTENT_SIZE);
      buffer.writeBigUInt64LE(start, 0);
      buffer.writeBigUInt64LE((1n << 63n) - start, 8);
      buffer.writeUInt32LE(EXTENTS_AT_ONCE, 24);
      await ioctl(file.fd, FS_IOC_FIEMAP, buffer, 'FIEMAP');
      const mapped = buffer.readUInt32LE(20);
      last = mapped === 0;
      for (let i = 0; i < mapped; i += 1) {
        const at = HEADER_SIZE + i * EXTENT_SIZE;
        const lengthBytes = buffer.readBigUInt64LE(at + 16);
        extents.push({ offsetBytes: buffer.readBigUInt64LE(at + 8), lengthBytes });
        start = buffer.readBigUInt64LE(at) + lengthBytes;
        last = (buffer.readUInt32LE(at + 40) & FIEMAP_EXTENT_LAST) !== 0;
      }
    }
  } finally {
    await file.close();
  }
  return extents;
}
