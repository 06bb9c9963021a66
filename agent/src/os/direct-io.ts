// SPDX-License-Identifier: Apache-2.0
// Block devices read past the page cache: a whole volume would push everything else out of it.
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import koffi from 'koffi';
import { ioctl } from './ioctl.js';

const ALIGNMENT = 4096;
const BLKZEROOUT = 0x127f;

/** Opens a block device for reads (and writes, with the flags of open(2)) that bypass the page cache. */
export function openDirect(path: string, flags: number = constants.O_RDONLY): Promise<FileHandle> {
  return open(path, flags | constants.O_DIRECT);
}

/** A new buffer at an address that direct I/O takes. */
export function alignedBuffer(size: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(size + ALIGNMENT);
  const excess = Number(koffi.address(buffer) % BigInt(ALIGNMENT));
  const start = excess === 0 ? 0 : ALIGNMENT - excess;
  return buffer.subarray(start, start + size);
}

/** Fills an aligned buffer from a position of a device; rejects when the device ends before. */
export async function readDevice(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length;) {
    const { bytesRead } = await file.read(data, done, data.length - done, position + done);
    if (bytesRead === 0) throw new Error(`the device ends at byte ${String(position + done)}`);
    done += bytesRead;
  }
}

/** Writes zeros, by the device's own command for it where it has one. Both numbers are multiples of its sectors. */
export async function zeroDevice(file: FileHandle, offset: bigint, length: bigint): Promise<void> {
  const range = Buffer.alloc(16);
  range.writeBigUInt64LE(offset, 0);
  range.writeBigUInt64LE(length, 8);
  await ioctl(file.fd, BLKZEROOUT, range, 'BLKZEROOUT');
}
