// SPDX-License-Identifier: Apache-2.0
// A block device of this machine that a backup is restored to. What speaks against overwriting it is what an agent would say.
import { readdir, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrnoException } from '../../../agent/src/errors.js';
import { alignedBuffer, DeviceWriter } from '../../../agent/src/os/direct-io.js';
import { commandOf, mountsOf } from '../../../agent/src/os/image-users.js';
import { findObstacle, lookAtTarget } from '../../../agent/src/os/overwriting.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { CliError, EXIT } from '../errors.js';
import type { Content } from '../backup/blocks.js';
import type { LocalTarget } from './target.js';
import { readTrackedOrigins } from './tracked-origins.js';

/** The canonical path of a device that may be overwritten, as far as a look tells. Rejects with CliError. */
export async function checkDevice(device: string, sizeBytes: number): Promise<string> {
  const path = await realpath(device);
  const trackers = await readTrackedOrigins();
  const obstacle = findObstacle(await lookAtTarget(path), BigInt(sizeBytes), trackers);
  if (obstacle) throw new CliError(obstacle.message, EXIT.state);
  return path;
}

/** Processes that have a file open, in words; those of others are seen by root only. */
export async function processesWith(path: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    if (pid === String(process.pid)) continue;
    const directory = `/proc/${pid}/fd`;
    const descriptors = await readdir(directory).catch(() => []);
    const links = descriptors.map((name) => readlink(join(directory, name)).catch(() => ''));
    if (!(await Promise.all(links)).includes(path)) continue;
    found.push(`open in process ${pid} (${await commandOf(pid)})`);
  }
  return found;
}

/** A refusal that names who has a device for itself, if that can be seen. */
async function inUse(path: string): Promise<CliError> {
  const users = [...(await mountsOf(path)), ...(await processesWith(path))];
  const who = users.length > 0 ? users.join(', ') : 'another program, which cannot be seen';
  return new CliError(`${path} is in use: ${who}; end that, or give another target`, EXIT.state);
}

export class LocalDevice implements LocalTarget {
  private constructor(
    readonly path: string,
    private readonly device: DeviceWriter,
  ) {}

  /** Takes a device for itself. Rejects with CliError when somebody else has it, and with an error of the system. */
  static async open(device: string, sizeBytes: number): Promise<LocalDevice> {
    const path = await checkDevice(device, sizeBytes);
    try {
      return new LocalDevice(path, await DeviceWriter.open(path));
    } catch (error) {
      throw isErrnoException(error) && error.code === 'EBUSY' ? await inUse(path) : error;
    }
  }

  get readPath(): string {
    return this.path;
  }

  writer(): (blocks: Content) => Promise<void> {
    const scratch = alignedBuffer(CHUNK_SIZE);
    return async (blocks) => {
      if (blocks.kind === 'data') await this.device.write(blocks.data, blocks.offset, scratch);
      else await this.device.zero(BigInt(blocks.offset), BigInt(blocks.length));
    };
  }

  async sync(): Promise<void> {
    await this.device.sync();
  }

  async complete(): Promise<void> {
    await this.device.close();
  }

  async abandon(isTouched: boolean): Promise<string> {
    await this.device.close();
    return isTouched
      ? `${this.path} is unusable now: restore again`
      : `nothing was written to ${this.path}`;
  }
}
