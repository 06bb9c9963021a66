// SPDX-License-Identifier: Apache-2.0
// A transfer that a run which was killed did not end goes on, if the device still shows the snapshot that it is of. Only then is
// what comes from now on of the same instant as what is there already.
import { TrackerState, type Snapshot } from '../../../proto/gen/elio/v1/types.js';
import type { Connection } from '../connection.js';
import { messageOf } from '../errors.js';
import { isBrokenConnection } from '../grpc-errors.js';
import { checkInterrupt } from '../interrupt.js';
import { formatBytes } from '../output.js';
import {
  cookieFromManifest,
  cookieToManifest,
  isSameInstant,
  type ManifestCookie,
} from './manifest.js';
import { type Origin, type TakenSnapshot } from './origin.js';
import type { ProgressRecord, Transfer } from './progress-record.js';
import { baseOf, type Choices, type Source } from './source.js';
import { atStep } from './steps.js';
import { openBlockStream } from './stream.js';
import type { BackupTarget } from './target.js';
import type { BackupWatch } from './watch.js';

/** What a transfer that begins now is of. */
export function transferOf(
  target: BackupTarget,
  source: Source,
  cookie: ManifestCookie,
  choices: Choices,
): Transfer {
  const { full, all } = choices;
  return {
    cookie,
    size_bytes: Number(source.stream.header.volumeSizeBytes),
    type: source.base ? 'incremental' : 'full',
    base: baseOf(target, choices)?.cookie ?? null,
    full,
    all,
  };
}

/** Why an unfinished transfer cannot go on; empty: nothing is known that speaks against it. */
export function obstacle(
  { transfer }: ProgressRecord,
  tracker: Snapshot | undefined,
  target: BackupTarget,
  choices: Choices,
): string {
  if (transfer.full !== choices.full) return 'only one of the two runs has --full';
  if (transfer.all !== choices.all) return 'only one of the two runs has --all';
  const base = baseOf(target, choices);
  if (!isSameInstant(transfer.base, base?.cookie ?? null)) return 'it builds on another backup';
  if (!tracker) return 'the device is not tracked any more';
  const name = `snapshot ${String(tracker.minor)}`;
  if (tracker.error !== 0) return `${name} has failed (${String(tracker.error)})`;
  if (tracker.state !== TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT) return 'its image is gone';
  const { cookie, sizeBytes } = tracker;
  if (!cookie || !isSameInstant(transfer.cookie, cookieToManifest(cookie))) {
    return `${name} is of another instant`;
  }
  return Number(sizeBytes) === transfer.size_bytes ? '' : 'the device has another size now';
}

/** An unfinished transfer that goes on. */
export interface Continuation {
  snapshot: TakenSnapshot;
  source: Source;
}

/**
 * Goes on with what there is at the destination. Gives the reason why that cannot be, which is empty when there is nothing. Rejects when
 * the agent cannot be reached, or it is interrupted; what is unfinished is then what it was.
 */
export async function goOn(
  connection: Connection,
  origin: Origin,
  tracker: Snapshot | undefined,
  target: BackupTarget,
  choices: Choices,
  watch: BackupWatch,
  signal: AbortSignal,
): Promise<Continuation | string> {
  const record = target.unfinished;
  if (!record) return '';
  const why = obstacle(record, tracker, target, choices);
  if (why !== '' || !tracker) return why;
  const { transfer, offset_bytes: offset } = record;
  const base = transfer.type === 'incremental' ? baseOf(target, choices) : undefined;
  const { minor } = tracker;
  const cookie = cookieFromManifest(transfer.cookie);
  const place = `byte ${String(offset)} (${formatBytes(BigInt(offset))})`;
  watch.note(
    `an interrupted transfer of snapshot ${String(transfer.cookie.seq_id)} goes on at ${place}`,
  );
  try {
    await origin.hold(minor, () => target.takeUp(signal));
    checkInterrupt(signal);
    const request = {
      minor,
      cookie,
      allocatedOnly: !choices.all,
      startingOffsetBytes: BigInt(offset),
      ...(base && { since: cookieFromManifest(base.cookie) }),
    };
    const stream = await openBlockStream(connection, request, signal, watch.pacer);
    atStep('gone-on');
    const what = base
      ? `what changed since snapshot ${String(base.cookie.seq_id)}`
      : 'the whole volume';
    const reason = `the transfer of ${what} that was interrupted went on at ${place}`;
    const source = { stream, base, reason, resumedAtBytes: offset };
    return { snapshot: { snapshot: tracker, cookie, note: '' }, source };
  } catch (error) {
    if (signal.aborted || isBrokenConnection(error)) throw error;
    return messageOf(error);
  }
}
