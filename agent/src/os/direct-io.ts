// SPDX-License-Identifier: Apache-2.0
// Block devices read past the page cache: a whole volume would push everything else out of it.
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import koffi from 'koffi';
import { ioctl } from './ioctl.js';

const ALIGNMENT = 4096;
const BLKZEROOUT = 0x127f;

/** Opens a block device so that reads (or writes, with the flags of open(2)) bypass the page cache. */
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

/** `length` rounded up to what every device takes in one piece. */
export function alignedLength(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}

/**
 * Fills an aligned buffer from a position of a device. It may end within the buffer, but not before `least` bytes: that
 * rejects.
 */
export async function readDevice(
  file: FileHandle,
  data: Buffer,
  position: number,
  least = data.length,
): Promise<void> {
  for (let done = 0; done < least;) {
    const { bytesRead } = await file.read(data, done, data.length - done, position + done);
    if (bytesRead === 0) throw new Error(`the device ends at byte ${String(position + done)}`);
    done += bytesRead;
  }
}

async function writeFully(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length;) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}

/**
 * A device that is overwritten, past the page cache. The end of a volume may be less than one of the device's sectors:
 * that rest goes through the cache, which knows how to change part of a sector.
 */
export class DeviceWriter {
  private constructor(
    private readonly cached: FileHandle,
    private readonly direct: FileHandle,
  ) {}

  /** Rejects with EBUSY when a filesystem or another program has the device for itself. */
  static async open(path: string): Promise<DeviceWriter> {
    const cached = await open(path, constants.O_RDWR | constants.O_EXCL);
    try {
      return new DeviceWriter(cached, await openDirect(path, constants.O_WRONLY));
    } catch (error) {
      await cached.close();
      throw error;
    }
  }

  /** Writes from a position that is a multiple of 4096 on. `scratch` is an aligned buffer, at least as long as `data`. */
  async write(data: Buffer, position: number, scratch: Buffer): Promise<void> {
    const whole = data.length - (data.length % ALIGNMENT);
    data.copy(scratch, 0, 0, whole);
    await writeFully(this.direct, scratch.subarray(0, whole), position);
    await writeFully(this.cached, data.subarray(whole), position + whole);
  }

  /** Writes zeros, by the device's own command for it where it has one. The offset is a multiple of 4096. */
  async zero(offset: bigint, length: bigint): Promise<void> {
    const rest = length % BigInt(ALIGNMENT);
    const whole = length - rest;
    if (whole > 0n) {
      const range = Buffer.alloc(16);
      range.writeBigUInt64LE(offset, 0);
      range.writeBigUInt64LE(whole, 8);
      await ioctl(this.cached.fd, BLKZEROOUT, range, 'BLKZEROOUT');
    }
    await writeFully(this.cached, Buffer.alloc(Number(rest)), Number(offset + whole));
  }

  /** Resolves when all that was written is on stable storage. */
  async sync(): Promise<void> {
    await this.cached.sync();
  }

  async close(): Promise<void> {
    await this.direct.close();
    await this.cached.close();
  }
}
