// SPDX-License-Identifier: Apache-2.0
// A backup: snapshot, stream, commit, back to incremental mode.
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { type Connection } from '../connection.js';
import { CliError, messageOf } from '../errors.js';
import { lengthOf, type Blocks } from './blocks.js';
import { checkInterrupt } from '../interrupt.js';
import { cookieToManifest } from './manifest.js';
import {
  describeOrigin,
  LEASE_SECONDS,
  trackerOf,
  type Origin,
  type SnapshotSizes,
  type TakenSnapshot,
} from './origin.js';
import { formatDuration } from '../output.js';
import type { ProgressView } from '../progress.js';
import { goOn, transferOf } from './resume.js';
import { openSource, type Choices, type Source } from './source.js';
import { atStep } from './steps.js';
import type { BlockStream } from './stream.js';
import type { BackupTarget, OriginDetails, WrittenBackup } from './target.js';
import { compareWithImage, DifferenceError } from './verify.js';
import type { BackupWatch } from './watch.js';

export interface BackupOptions extends SnapshotSizes, Choices {
  /** Compare the backup with the image before the image goes. */
  verify: boolean;
  /** Leave the image for the user. */
  keepSnapshot: boolean;
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
  /** The byte of the volume at which this run went on with an unfinished transfer; null: it did not. What follows is of this run. */
  resumed_at_bytes: number | null;
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

async function* watched(
  stream: BlockStream,
  progress: ProgressView,
  signal: AbortSignal,
): AsyncGenerator<Blocks> {
  const half = Number(stream.header.totalBytes) / 2;
  let coveredBytes = 0;
  for await (const blocks of stream.blocks) {
    yield blocks;
    // Where all that the agent has sent is here already, the end of its stream tells of no interrupt.
    checkInterrupt(signal);
    coveredBytes += lengthOf(blocks);
    progress.advance(lengthOf(blocks));
    if (coveredBytes >= half) atStep('half-streamed');
  }
}

async function transfer(
  source: Source,
  target: BackupTarget,
  origin: Origin,
  details: OriginDetails,
  { snapshot, cookie }: TakenSnapshot,
  choices: Choices,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<WrittenBackup> {
  const { stream, base } = source;
  const type = base ? 'incremental' : 'full';
  const progress = watch.showProgress(`${type} backup`, Number(stream.header.totalBytes));
  const blocks = watched(stream, progress, signal);
  const instant = cookieToManifest(cookie);
  const what = transferOf(target, source, instant, choices);
  try {
    // The stream renews the lease, but what comes behind it may take longer than that.
    return await origin.hold(snapshot.minor, () =>
      base
        ? target.writeIncrement(blocks, details, instant, what)
        : target.writeFull(blocks, what.size_bytes, details, instant, what),
    );
  } finally {
    progress.stop();
    stream.close();
  }
}

/** After a failure: no image that fills its COW file, unless another run can go on with it; the changes go on being recorded. */
async function leave(
  origin: Origin,
  snapshot: Snapshot,
  target: BackupTarget,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<void> {
  const { minor } = snapshot;
  if (target.unfinished && !signal.aborted) {
    const time = formatDuration(LEASE_SECONDS);
    watch.warn(
      `snapshot ${String(minor)} stays for ${time}: run the command again to go on with it`,
    );
    return;
  }
  if (target.unfinished) await target.discard();
  try {
    await origin.toIncremental(snapshot);
  } catch (error) {
    watch.warn(`snapshot ${String(minor)} stays in snapshot mode: ${messageOf(error)}`);
  }
}

/** Compares what was just written with the image; rejects when they differ, and then nothing is built on it. */
async function verifyWritten(
  connection: Connection,
  minor: number,
  target: BackupTarget,
  { showProgress, pacer }: BackupWatch,
  signal: AbortSignal,
): Promise<void> {
  try {
    await compareWithImage(connection, minor, target.content(), signal, showProgress, pacer);
  } catch (error) {
    if (!(error instanceof DifferenceError)) throw error;
    const fate = await target
      .withdraw()
      .catch((failure: unknown) => `it could not be taken back: ${messageOf(failure)}`);
    throw new CliError(`${error.message}; ${fate}`);
  }
}

async function run(
  connection: Connection,
  origin: Origin,
  snapshot: TakenSnapshot,
  goingOn: Source | undefined,
  target: BackupTarget,
  details: OriginDetails,
  options: BackupOptions,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<Omit<BackupResult, 'seconds'>> {
  const { cookie } = snapshot;
  const { minor, blockDevice } = snapshot.snapshot;
  const { pacer } = watch;
  const source =
    goingOn ?? (await openSource(connection, minor, cookie, target, options, pacer, signal));
  const reason = [snapshot.note, source.reason].filter((text) => text !== '').join('; ');
  if (!source.base && !goingOn) watch.note(`full backup: ${reason}`);
  const { header } = source.stream;
  if (header.allocatedUnknownReason !== '') {
    watch.note(`nothing can be left out: ${header.allocatedUnknownReason}`);
  }
  const written = await transfer(
    source,
    target,
    origin,
    { ...details, blockDevice },
    snapshot,
    options,
    watch,
    signal,
  );
  atStep('committed');
  if (options.verify) {
    await verifyWritten(connection, minor, target, watch, signal);
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
    resumed_at_bytes: source.resumedAtBytes,
    sent_bytes: source.stream.sentBytes(),
    covered_bytes: Number(header.totalBytes),
    skipped_bytes: Number(header.skippedBytes),
    allocated_unknown_reason: header.allocatedUnknownReason,
    volume_bytes: Number(header.volumeSizeBytes),
    cookie: cookieToManifest(cookie),
  };
}

interface Beginning {
  snapshot: TakenSnapshot;
  /** The rest of an unfinished transfer of that snapshot. */
  goingOn: Source | undefined;
}

/** Goes on with what a former run has left, or throws it away and takes a new snapshot. */
async function begin(
  connection: Connection,
  origin: Origin,
  target: BackupTarget,
  options: BackupOptions,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<Beginning> {
  const tracker = target.unfinished && (await trackerOf(connection, origin.device));
  let why: string;
  try {
    const continuation = await goOn(connection, origin, tracker, target, options, watch, signal);
    if (typeof continuation !== 'string') {
      return { snapshot: continuation.snapshot, goingOn: continuation.source };
    }
    why = continuation;
  } catch (error) {
    if (tracker) await leave(origin, tracker, target, watch, signal);
    throw error;
  }
  if (why !== '') why = `an unfinished transfer could not go on: ${why}`;
  if (why !== '') watch.note(why);
  await target.discard();
  const { cowSizeBytes, cacheSizeBytes } = options;
  const snapshot = await origin.takeSnapshot({ cowSizeBytes, cacheSizeBytes });
  const notes = [why, snapshot.note].filter((text) => text !== '');
  return { snapshot: { ...snapshot, note: notes.join('; ') }, goingOn: undefined };
}

/**
 * Brings the destination up to date with a new snapshot of the device, or with that of a transfer which a killed run did not end, and
 * leaves the device in incremental mode. Rejects with CliError; the destination is then what it was, or has the complete backup when
 * what failed came behind that, and the next run is incremental if this one could have been. But a raw file that is found to differ from
 * the image stays, and the next run is a full one.
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
  const { snapshot, goingOn } = await begin(connection, origin, target, options, watch, signal);
  const { minor, ignoreErrors } = snapshot.snapshot;
  if (ignoreErrors) {
    const id = String(minor);
    watch.warn(
      `snapshot ${id} was set up or reloaded with -i: a block of it that cannot be read fails the snapshot, and with it the backup`,
    );
  }
  atStep('snapshot-taken');
  let result: Omit<BackupResult, 'seconds'>;
  try {
    checkInterrupt(signal);
    result = await run(
      connection,
      origin,
      snapshot,
      goingOn,
      target,
      details,
      options,
      watch,
      signal,
    );
  } catch (error) {
    await leave(origin, snapshot.snapshot, target, watch, signal);
    throw error;
  }
  if (options.keepSnapshot) await origin.keep(minor);
  else await origin.toIncremental(snapshot.snapshot);
  return { ...result, seconds: (Date.now() - startedMs) / 1000 };
}
