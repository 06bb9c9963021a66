// SPDX-License-Identifier: Apache-2.0
import { isErrnoException } from '../../../agent/src/errors.js';
import { CliError, EXIT } from '../errors.js';
import { NbdError } from '../nbd/protocol.js';

/** What the system refused while a set was written, in words that say what to do; other errors stay what they are. */
export function storageError(error: unknown, directory: string): unknown {
  const hasCode = isErrnoException(error) || error instanceof NbdError;
  if (error instanceof CliError || !hasCode) return error;
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new CliError(
        `${directory} is full: make room, or prune; the complete backups in it are what they were`,
      );
    case 'EACCES':
    case 'EPERM':
      return new CliError(
        `${directory} cannot be written (${error.code}): give another directory, or become a user who may`,
        EXIT.unreachable,
      );
    case 'EROFS':
      return new CliError(
        `${directory} is on a read-only filesystem: mount it for writing, or give another directory`,
        EXIT.unreachable,
      );
    case 'ENOENT':
    case 'ESTALE':
      return new CliError(
        `${directory}, or a file in it, is not there any more: is it still mounted?`,
        EXIT.notFound,
      );
    case 'EIO':
      return new CliError(`${directory}: its storage gives input/output errors (see dmesg)`);
    default:
      return error instanceof NbdError ? new CliError(`${directory}: ${error.message}`) : error;
  }
}
