// SPDX-License-Identifier: Apache-2.0
import { open, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import koffi from 'koffi';
import { isErrnoException } from '../../../agent/src/errors.js';
import { CliError, EXIT } from '../errors.js';

const LOCK = { shared: 1, exclusive: 2, nonBlocking: 4 } as const;

/** A holder that ends has the lock for itself for a moment, to delete the file. */
const GRACE_MS = 500;
const RETRY_MS = 20;

type LockMode = 'shared' | 'exclusive';

const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)');

function tryLock(file: FileHandle, mode: LockMode): boolean {
  return flock(file.fd, LOCK[mode] | LOCK.nonBlocking) === 0;
}

/** Is what is at the path the file that we have open? Its last holder may have deleted it. */
async function isAt(path: string, file: FileHandle): Promise<boolean> {
  const there = await stat(path).catch(() => undefined);
  return there?.ino === (await file.stat()).ino;
}

/** A lock on a backup, by flock(2) on a file beside it: the kernel releases it when its holder dies. */
export class BackupLock {
  private lost = false;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle | undefined,
  ) {}

  /** Rejects with a CliError when another process has the lock. `backup` is how messages name what is locked. */
  static async acquire(
    backup: string,
    mode: LockMode,
    path = `${backup}.lock`,
  ): Promise<BackupLock> {
    const deadline = Date.now() + GRACE_MS;
    for (;;) {
      let file: FileHandle;
      try {
        file = await open(path, 'a', 0o600);
      } catch (error) {
        const code = isErrnoException(error) ? error.code : undefined;
        // Where nobody can write, nobody changes the backup either.
        if (mode === 'shared' && (code === 'EROFS' || code === 'EACCES')) {
          return new BackupLock(path, undefined);
        }
        if (code === 'ENOENT') {
          throw new CliError(`${backup}: ${dirname(path)} does not exist`, EXIT.notFound);
        }
        throw error;
      }
      const locked = tryLock(file, mode);
      if (locked && (await isAt(path, file))) return new BackupLock(path, file);
      await file.close();
      if (locked) continue;
      if (Date.now() >= deadline) {
        throw new CliError(`${backup} is in use by another elioctl: wait for it to end`, EXIT.busy);
      }
      await delay(RETRY_MS);
    }
  }

  /** It was shared, and another took it for itself when this one was to become exclusive. */
  get isLost(): boolean {
    return this.lost;
  }

  /** From shared to exclusive, for as long as the task runs. */
  async exclusively(task: () => Promise<void>): Promise<void> {
    if (!this.file || !tryLock(this.file, 'exclusive')) {
      // The kernel gives up the old lock before it tries for the new one.
      this.lost = this.file !== undefined && !tryLock(this.file, 'shared');
      throw new CliError(
        `${this.path} is held by another elioctl, or cannot be written`,
        EXIT.busy,
      );
    }
    try {
      await task();
    } finally {
      tryLock(this.file, 'shared');
    }
  }

  async release(): Promise<void> {
    if (!this.file) return;
    // A file that cannot be deleted locks nothing: its disk may be gone, of which there is more to say than this.
    if (tryLock(this.file, 'exclusive')) {
      await rm(this.path, { force: true }).catch(() => undefined);
    }
    await this.file.close();
  }
}
