// SPDX-License-Identifier: Apache-2.0
// What a backup is written to, and what one is read from, whatever its form: a raw file, or a set.
import type { ChangeMap } from '../../../agent/src/changes/change-map.js';
import type { Blocks } from './blocks.js';
import type { BackupOrigin, ManifestCookie } from './manifest.js';
import type { ProgressRecord, Transfer } from './progress-record.js';

/** Where a backup comes from, in full. */
export interface OriginDetails extends BackupOrigin {
  agentVersion: string;
  moduleVersion: string;
  kernelRelease: string;
}

/** A backup that the next one can build on. */
export interface BackupBase {
  cookie: ManifestCookie;
  sizeBytes: number;
}

/** What a backup has become. */
export interface WrittenBackup {
  path: string;
  /** Its number in a set, and that of the one that it changes; null: there is none. */
  id: number | null;
  parent: number | null;
}

export interface BackupTarget {
  /** As messages name it. */
  readonly path: string;
  /** The newest backup; undefined: there is none to build on, and `whyNone` says why. */
  readonly base: BackupBase | undefined;
  readonly whyNone: string;
  /** Rejects with CliError when a backup of this origin must not be written here. */
  checkMayWrite(origin: OriginDetails): Promise<void>;
  /** What a run that was killed has left of a transfer; undefined: nothing with which another one could go on. */
  readonly unfinished: ProgressRecord | undefined;
  /**
   * Proves what the unfinished files hold, and cuts off what nothing proves; the next write takes the blocks behind that. Rejects
   * when they are not what they were, are not there, or with CliError when it is interrupted.
   */
  takeUp(signal: AbortSignal): Promise<void>;
  /** Throws what is unfinished away. */
  discard(): Promise<void>;
  /**
   * Takes all blocks of a volume. Until it resolves the former backups are what they were. With `transfer` its progress is recorded,
   * and what there is of it is kept when the process is killed, or the stream rejects with BrokenTransferError.
   */
  writeFull(
    blocks: AsyncIterable<Blocks>,
    sizeBytes: number,
    origin: OriginDetails,
    cookie: ManifestCookie,
    transfer?: Transfer,
  ): Promise<WrittenBackup>;
  /** Takes what has changed since `base`, in the same way. */
  writeIncrement(
    blocks: AsyncIterable<Blocks>,
    origin: OriginDetails,
    cookie: ManifestCookie,
    transfer?: Transfer,
  ): Promise<WrittenBackup>;
  /**
   * Takes back the newest backup, which is not what it should be: the next one does not build on it. Resolves with what has become of
   * it, for a message.
   */
  withdraw(): Promise<string>;
  /** The newest backup; rejects when there is none. */
  content(): BackupContent;
}

/** A backup, as a volume. */
export interface BackupContent {
  /** As messages name it. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly cookie: ManifestCookie;
  /** Blocks whose content means nothing. */
  readonly skipped: ChangeMap;
  /** Each MiB is compared with its checksum when it is read: there is no need to check() before. */
  readonly isCheckedWhileRead: boolean;
  /** Rejects with CliError when the files are not what their checksums say. */
  check(signal: AbortSignal): Promise<void>;
  open(): Promise<VolumeReader>;
}

export interface VolumeReader {
  /** Fills the buffer, at most a MiB, from a position. Several may be on their way. */
  read(buffer: Buffer, position: number): Promise<void>;
  /** SHA-256 of a chunk, where that is known. */
  digestOf(index: number): Buffer | undefined;
  close(): Promise<void>;
}
