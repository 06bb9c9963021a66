// SPDX-License-Identifier: Apache-2.0
// A backup: snapshot, stream, commit, back to incremental mode.
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import { type Connection } from '../connection.js';
import { CliError, messageOf } from '../errors.js';
import { lengthOf, type Blocks } from './blocks.js';
import { checkInterrupt } from '../interrupt.js';
import { cookieFromManifest, cookieToManifest } from './manifest.js';
import { describeOrigin, type Origin, type SnapshotSizes, type TakenSnapshot } from './origin.js';
import type { Pacer } from './pacer.js';
import type { ProgressView, ShowProgress } from '../progress.js';
import { atStep } from './steps.js';
import { openBlockStream, type BlockStream } from './stream.js';
import type { BackupBase, BackupTarget, OriginDetails, WrittenBackup } from './target.js';
import { compareWithImage } from './verify.js';

export interface BackupOptions extends SnapshotSizes {
  /** Compare the backup with the image before the image goes. */
  verify: boolean;
  /** Leave the image for the user. */
  keepSnapshot: boolean;
  /** Stream everything, whatever there is. */
  full: boolean;
  /** Also what the filesystem does not use. */
  all: boolean;
}

/** Whom a backup tells how it gets on, and who holds it back. */
export interface BackupWatch {
  /** Takes what is good to know, and is in the result. */
  note(message: string): void;
  /** Takes what somebody should look at. */
  warn(message: string): void;
  showProgress: ShowProgress;
  /** The limit on what the host sends; undefined: none. */
  pacer?: Pacer | undefined;
}

/** What a backup did, as scripts see it. */
export interface BackupResult {
  type: 'full' | 'incremental';
  reason: string;
  device: string;
  /** The tracker of the device. */
  minor: number;
  file: string;
  /** The backup's number in a set, and that of the one that it changes. */
  id: number | null;
  parent: number | null;
  /** Bytes of data that were streamed. */
  sent_bytes: number;
  /** Bytes of the volume that the stream covered, zeros included. */
  covered_bytes: number;
  /** Of those, the ones that were skipped because the filesystem does not use them. */
  skipped_bytes: number;
  /** Why nothing could be skipped; empty: it could, or --all was given. */
  allocated_unknown_reason: string;
  volume_bytes: number;
  cookie: { uuid: string; seq_id: number; nonce: string };
  seconds: number;
}

interface Source {
  stream: BlockStream;
  /** The backup that the stream changes; undefined: the stream is the whole volume. */
  base: BackupBase | undefined;
  reason: string;
}

/** Opens the stream of what the destination lacks; it says why that is everything, if it is. */
async function openSource(
  connection: Connection,
  minor: number,
  cookie: Cookie,
  target: BackupTarget,
  { full, all }: BackupOptions,
  pacer: Pacer | undefined,
  signal: AbortSignal,
): Promise<Source> {
  const request = { minor, cookie, allocatedOnly: !all };
  const base = full ? undefined : target.base;
  let reason = full ? 'asked for by --full' : target.whyNone;
  if (base) {
    const since = cookieFromManifest(base.cookie);
    try {
      const stream = await openBlockStream(connection, { ...request, since }, signal, pacer);
      if (Number(stream.header.volumeSizeBytes) === base.sizeBytes) {
        reason = `only what changed since snapshot ${String(base.cookie.seq_id)}`;
        return { stream, base, reason };
      }
      await stream.blocks.return(undefined);
      reason = 'the device has another size than the backup';
    } catch (error) {
      if (!(error instanceof CliError) || error.reason !== 'CHANGES_UNKNOWN') throw error;
      reason = error.message;
    }
  }
  const stream = await openBlockStream(connection, request, signal, pacer);
  return { stream, base: undefined, reason };
}

async function* watched(stream: BlockStream, progress: ProgressView): AsyncGenerator<Blocks> {
  const half = Number(stream.header.totalBytes) / 2;
  let coveredBytes = 0;
  for await (const blocks of stream.blocks) {
    yield blocks;
    coveredBytes += lengthOf(blocks);
    progress.advance(lengthOf(blocks));
    if (coveredBytes >= half) atStep('half-streamed');
  }
}

async function transfer(
  source: Source,
  target: BackupTarget,
  origin: OriginDetails,
  cookie: Cookie,
  showProgress: ShowProgress,
): Promise<WrittenBackup> {
  const { stream, base } = source;
  const type = base ? 'incremental' : 'full';
  const progress = showProgress(`${type} backup`, Number(stream.header.totalBytes));
  const blocks = watched(stream, progress);
  const instant = cookieToManifest(cookie);
  try {
    if (base) return await target.writeIncrement(blocks, origin, instant);
    const sizeBytes = Number(stream.header.volumeSizeBytes);
    return await target.writeFull(blocks, sizeBytes, origin, instant);
  } finally {
    progress.stop();
  }
}

/** After a failure: no image that fills its COW file; the changes go on being recorded. */
async function backToIncremental(origin: Origin, minor: number, watch: BackupWatch): Promise<void> {
  try {
    await origin.toIncremental(minor);
  } catch (error) {
    watch.warn(`snapshot ${String(minor)} stays in snapshot mode: ${messageOf(error)}`);
  }
}

async function run(
  connection: Connection,
  origin: Origin,
  snapshot: TakenSnapshot,
  target: BackupTarget,
  details: OriginDetails,
  options: BackupOptions,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<Omit<BackupResult, 'seconds'>> {
  const { cookie } = snapshot;
  const { minor, blockDevice } = snapshot.snapshot;
  const { pacer, showProgress } = watch;
  const source = await openSource(connection, minor, cookie, target, options, pacer, signal);
  const reason = [snapshot.note, source.reason].filter((text) => text !== '').join('; ');
  if (!source.base) watch.note(`full backup: ${reason}`);
  const { header } = source.stream;
  if (header.allocatedUnknownReason !== '') {
    watch.note(`nothing can be left out: ${header.allocatedUnknownReason}`);
  }
  const written = await transfer(source, target, { ...details, blockDevice }, cookie, showProgress);
  atStep('committed');
  if (options.verify) {
    await compareWithImage(connection, minor, target.content(), signal, showProgress, pacer);
    watch.note('the backup equals the image');
  }
  checkInterrupt(signal);
  await origin.deleteOldCowFile(minor);
  atStep('old-cow-file-deleted');
  return {
    type: source.base ? 'incremental' : 'full',
    reason,
    device: blockDevice,
    minor,
    file: written.path,
    id: written.id,
    parent: written.parent,
    sent_bytes: source.stream.sentBytes(),
    covered_bytes: Number(header.totalBytes),
    skipped_bytes: Number(header.skippedBytes),
    allocated_unknown_reason: header.allocatedUnknownReason,
    volume_bytes: Number(header.volumeSizeBytes),
    cookie: cookieToManifest(cookie),
  };
}

/**
 * Brings the destination up to date with a new snapshot of the device, and leaves the device in incremental mode. Rejects
 * with CliError; the destination is then what it was, and the next run is incremental if this one could have been.
 */
export async function backUp(
  connection: Connection,
  origin: Origin,
  target: BackupTarget,
  options: BackupOptions,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<BackupResult> {
  const startedMs = Date.now();
  const details = await describeOrigin(connection, origin.device);
  await target.checkMayWrite(details);
  const { cowSizeBytes, cacheSizeBytes } = options;
  const snapshot = await origin.takeSnapshot({ cowSizeBytes, cacheSizeBytes });
  const { minor } = snapshot.snapshot;
  atStep('snapshot-taken');
  let result: Omit<BackupResult, 'seconds'>;
  try {
    checkInterrupt(signal);
    result = await run(connection, origin, snapshot, target, details, options, watch, signal);
  } catch (error) {
    await backToIncremental(origin, minor, watch);
    throw error;
  }
  if (options.keepSnapshot) await origin.keep(minor);
  else await origin.toIncremental(minor);
  return { ...result, seconds: (Date.now() - startedMs) / 1000 };
}
