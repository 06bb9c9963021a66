// SPDX-License-Identifier: Apache-2.0
// A file that a backup is restored to: FILE.partial, which has holes where the backup has zeros, until all of it was read back.
import { open, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncDirectory } from '../../../agent/src/os/atomic-file.js';
import { CliError, EXIT } from '../errors.js';
import { exists } from '../files.js';
import { parseName } from '../sets/names.js';
import type { Content } from '../backup/blocks.js';
import { writeBlocks } from '../backup/file-io.js';
import type { LocalTarget } from './target.js';
import { BackupLock } from '../backup/lock.js';
import { zeroRuns } from '../backup/zero-runs.js';

/** Where a file is to be, and whether one is there. */
export interface FilePlace {
  /** Without symbolic links. */
  path: string;
  exists: boolean;
}

function refuse(message: string): CliError {
  return new CliError(message, EXIT.usage);
}

/** Looks for the place of a file. Rejects with CliError when no file can be there, or when it is part of a backup. */
export async function findPlace(target: string): Promise<FilePlace> {
  const directory = await realpath(dirname(target)).catch(() => undefined);
  if (directory === undefined) {
    throw new CliError(`${target}: ${dirname(target)} does not exist`, EXIT.notFound);
  }
  if (directory === '/dev' || directory.startsWith('/dev/')) {
    const isThere = await exists(target);
    if (!isThere) throw new CliError(`${target} does not exist`, EXIT.notFound);
  }
  const path = await realpath(target).catch(() => join(directory, basename(target)));
  const there = await stat(path).catch(() => undefined);
  if (there && !there.isFile()) {
    throw refuse(`${path} is neither a file nor a block device: give another target`);
  }
  for (const suffix of ['.manifest', '.next']) {
    if (!(await exists(path + suffix))) continue;
    throw refuse(
      `${path} is a backup (${basename(path)}${suffix} belongs to it): give another target, or delete both`,
    );
  }
  if (there && parseName(basename(path))) {
    throw refuse(`${path} is a file of a backup set: give another target`);
  }
  return { path, exists: there !== undefined };
}

export class LocalFile implements LocalTarget {
  private constructor(
    readonly path: string,
    readonly readPath: string,
    private readonly file: FileHandle,
    private readonly lock: BackupLock,
  ) {}

  /** Begins an empty file of so many bytes. Rejects with an error of the system, or with CliError when it is in use. */
  static async create(path: string, sizeBytes: number): Promise<LocalFile> {
    const lock = await BackupLock.acquire(path, 'exclusive');
    const partialPath = `${path}.partial`;
    try {
      const file = await open(partialPath, 'w', 0o600);
      try {
        await file.truncate(sizeBytes);
      } catch (error) {
        await file.close();
        await rm(partialPath, { force: true });
        throw error;
      }
      return new LocalFile(path, partialPath, file, lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  writer(): (blocks: Content) => Promise<void> {
    return async (blocks) => {
      // What a new file does not hold is zero already.
      if (blocks.kind === 'hole') return;
      for (const { start, end, zero } of zeroRuns(blocks.data)) {
        if (zero) continue;
        const data = blocks.data.subarray(start, end);
        await writeBlocks(this.file, { kind: 'data', offset: blocks.offset + start, data });
      }
    };
  }

  async sync(): Promise<void> {
    await this.file.sync();
  }

  async complete(): Promise<void> {
    await rename(this.readPath, this.path);
    await syncDirectory(dirname(this.path));
    await this.file.close();
    await this.lock.release();
  }

  async abandon(): Promise<string> {
    await this.file.close().catch(() => undefined);
    await rm(this.readPath, { force: true });
    await this.lock.release();
    return `${this.readPath} was deleted`;
  }
}
