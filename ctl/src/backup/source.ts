// SPDX-License-Identifier: Apache-2.0
// Where the blocks of a backup come from: the stream of what its destination lacks.
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import type { Connection } from '../connection.js';
import { CliError } from '../errors.js';
import { cookieFromManifest } from './manifest.js';
import type { Pacer } from './pacer.js';
import { openBlockStream, type BlockStream } from './stream.js';
import type { BackupBase, BackupTarget } from './target.js';

export interface Source {
  stream: BlockStream;
  /** The backup that the stream changes; undefined: the stream is the whole volume. */
  base: BackupBase | undefined;
  reason: string;
  /** The byte of the volume at which an unfinished transfer goes on; null: the stream begins at its beginning. */
  resumedAtBytes: number | null;
}

/** What the user wants, as far as it decides what is streamed. */
export interface Choices {
  /** Stream everything, whatever there is. */
  full: boolean;
  /** Also what the filesystem does not use. */
  all: boolean;
}

/** The backup to build on. */
export function baseOf(target: BackupTarget, { full }: Choices): BackupBase | undefined {
  return full ? undefined : target.base;
}

/** Opens the stream of what the destination lacks; it says why that is everything, if it is. */
export async function openSource(
  connection: Connection,
  minor: number,
  cookie: Cookie,
  target: BackupTarget,
  choices: Choices,
  pacer: Pacer | undefined,
  signal: AbortSignal,
): Promise<Source> {
  const request = { minor, cookie, allocatedOnly: !choices.all };
  const base = baseOf(target, choices);
  let reason = choices.full ? 'asked for by --full' : target.whyNone;
  if (base) {
    const since = cookieFromManifest(base.cookie);
    try {
      const stream = await openBlockStream(connection, { ...request, since }, signal, pacer);
      if (Number(stream.header.volumeSizeBytes) === base.sizeBytes) {
        reason = `only what changed since snapshot ${String(base.cookie.seq_id)}`;
        return { stream, base, reason, resumedAtBytes: null };
      }
      stream.close();
      reason = 'the device has another size than the backup';
    } catch (error) {
      if (!(error instanceof CliError) || error.reason !== 'CHANGES_UNKNOWN') throw error;
      reason = error.message;
    }
  }
  const stream = await openBlockStream(connection, request, signal, pacer);
  return { stream, base: undefined, reason, resumedAtBytes: null };
}
