// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from 'node:fs/promises';
import { alignedBuffer, alignedLength, readDevice } from '../os/direct-io.js';
import { insist } from './unknown.js';

const ALIGNMENT = 4096;

/** Reads parts of an image. */
export interface ImageReader {
  readonly sizeBytes: number;
  /**
   * Exactly `length` bytes from `offset` on. Rejects with AllocationUnknownError when they are not all in the image, which
   * no sound filesystem asks for, and with the error of the device when that cannot be read.
   */
  read(offset: number, length: number): Promise<Buffer>;
}

/** Reads from an open device, or a file, that may demand aligned reads. */
export class DeviceReader implements ImageReader {
  readonly sizeBytes: number;

  constructor(
    private readonly file: FileHandle,
    sizeBytes: bigint,
  ) {
    insist(sizeBytes <= BigInt(Number.MAX_SAFE_INTEGER), 'the device is larger than 8 PiB');
    this.sizeBytes = Number(sizeBytes);
  }

  async read(offset: number, length: number): Promise<Buffer> {
    insist(
      offset >= 0 && offset + length <= this.sizeBytes,
      `it points to byte ${String(offset)}, which is not on the device`,
    );
    const before = offset % ALIGNMENT;
    const buffer = alignedBuffer(alignedLength(before + length));
    await readDevice(this.file, buffer, offset - before, before + length);
    return buffer.subarray(before, before + length);
  }
}
