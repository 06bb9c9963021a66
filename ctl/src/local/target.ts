// SPDX-License-Identifier: Apache-2.0
// A device or file of this machine that a backup is restored to without an agent.
import { CliError, EXIT, messageOf } from '../errors.js';
import type { Content } from '../backup/blocks.js';

/** While it is open nobody else restores to it. */
export interface LocalTarget {
  /** As messages name it. */
  readonly path: string;
  /** From where what was written is read back. */
  readonly readPath: string;
  /** What one of several streams writes with, a piece at a time. */
  writer(): (blocks: Content) => Promise<void>;
  /** Resolves when all that was written is on stable storage. */
  sync(): Promise<void>;
  /** It holds the backup. */
  complete(): Promise<void>;
  /** It does not, and will not. Resolves with what has become of it; `isTouched`: something may have been written. */
  abandon(isTouched: boolean): Promise<string>;
}

/** What the system refused while a target was opened or written, in words that say what to do; other errors stay what they are. */
export function targetFailure(error: unknown, path: string): unknown {
  if (error instanceof CliError || !(error instanceof Error && 'code' in error)) return error;
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new CliError(`${path} cannot be written: there is no room for it (${error.code})`);
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new CliError(
        `${path} cannot be written (${error.code}): give another target, or become a user who may`,
        EXIT.unreachable,
      );
    case 'EIO':
      return new CliError(`${path}: its storage gives input/output errors (see dmesg)`);
    default:
      return new CliError(`${path}: ${messageOf(error)}`);
  }
}
