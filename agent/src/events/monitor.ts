// SPDX-License-Identifier: Apache-2.0
// What has happened between two looks at the trackers.
import { TrackerState, type Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { failureMessage } from '../driver/failures.js';
import { Batches } from '../os/semaphore.js';
import type { Event, EventLog } from './event-log.js';

/** Marks of how full a COW file is, in percent: each is told once. */
const FILL_MARKS = [50, 80, 95] as const;
/** Time left until a COW file overflows, in seconds: each is told once, until there is twice as much again. */
const FORECAST_MARKS = [600, 3600] as const;
/** The rate is that of about so long. */
const RATE_MS = 30_000;

/** What is remembered of a tracker from one look to the next. */
export interface Observation {
  snapshot: Snapshot;
  atMs: number;
  /** Bytes added to the COW file per second, of the last half minute or so. */
  bytesPerSecond: number;
  /** The highest mark that was told; 0: none. */
  fillMark: number;
  /** The lowest mark that was told; Infinity: none. */
  forecastMark: number;
}

const inSnapshotMode = ({ state }: Snapshot): boolean =>
  state === TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT;

function isSameInstant(a: Snapshot, b: Snapshot): boolean {
  return a.cookie?.uuid === b.cookie?.uuid && a.cookie?.seqId === b.cookie?.seqId;
}

function eventOf(snapshot: Snapshot, event: Event['event']): Event {
  return { minor: snapshot.minor, blockDevice: snapshot.blockDevice, event };
}

/** The event that a tracker is there, for those who begin to watch. */
export function appeared(snapshot: Snapshot): Event {
  return stateChanged(snapshot, TrackerState.TRACKER_STATE_UNSPECIFIED, snapshot);
}

function stateChanged(subject: Snapshot, from: TrackerState, now: Snapshot | undefined): Event {
  const to = now?.state ?? TrackerState.TRACKER_STATE_UNSPECIFIED;
  return eventOf(subject, { $case: 'stateChanged', value: { from, to, cookie: now?.cookie } });
}

function rateOf(former: Observation, now: Snapshot, atMs: number): number {
  const seconds = (atMs - former.atMs) / 1000;
  if (seconds <= 0) return former.bytesPerSecond;
  const added = Number(now.cowUsedBytes - former.snapshot.cowUsedBytes);
  const weight = Math.exp((-seconds * 1000) / RATE_MS);
  return weight * former.bytesPerSecond + ((1 - weight) * Math.max(0, added)) / seconds;
}

/** One look at one tracker: what is to be remembered, and what happened since the former look. */
export function observe(
  former: Observation | undefined,
  now: Snapshot,
  atMs: number,
): { observation: Observation; events: Event[] } {
  const events: Event[] = [];
  const before = former?.snapshot;
  const sameInstant = before !== undefined && isSameInstant(before, now);
  if (!sameInstant || before.state !== now.state) {
    const from = before?.state ?? TrackerState.TRACKER_STATE_UNSPECIFIED;
    events.push(stateChanged(now, from, now));
  }
  if (now.error !== 0 && (!sameInstant || before.error === 0)) {
    const value = { error: now.error, message: failureMessage(now.error) };
    events.push(eventOf(now, { $case: 'failed', value }));
  }
  const observation: Observation = {
    snapshot: now,
    atMs,
    bytesPerSecond: former && sameInstant ? rateOf(former, now, atMs) : 0,
    fillMark: former && sameInstant ? former.fillMark : 0,
    forecastMark: former && sameInstant ? former.forecastMark : Infinity,
  };
  if (inSnapshotMode(now) && now.error === 0) {
    events.push(...fillEvents(observation), ...forecastEvents(observation));
  }
  return { observation, events };
}

function fillEvents(observation: Observation): Event[] {
  const { cowUsedBytes, cowSizeBytes } = observation.snapshot;
  if (cowSizeBytes === 0n) return [];
  const percent = Number((cowUsedBytes * 100n) / cowSizeBytes);
  const reached = FILL_MARKS.filter((mark) => percent >= mark && mark > observation.fillMark);
  observation.fillMark = reached.at(-1) ?? observation.fillMark;
  return reached.map((mark) => {
    const value = { percent: mark, usedBytes: cowUsedBytes, sizeBytes: cowSizeBytes };
    return eventOf(observation.snapshot, { $case: 'cowFill', value });
  });
}

/** Seconds until the COW file overflows at this rate; Infinity when nothing is written. */
export function secondsLeft({ snapshot, bytesPerSecond }: Observation): number {
  const free = Number(snapshot.cowSizeBytes - snapshot.cowUsedBytes);
  return inSnapshotMode(snapshot) && bytesPerSecond >= 1 ? free / bytesPerSecond : Infinity;
}

function forecastEvents(observation: Observation): Event[] {
  const left = secondsLeft(observation);
  if (left > 2 * observation.forecastMark) observation.forecastMark = Infinity;
  const mark = FORECAST_MARKS.find((seconds) => left < seconds);
  if (mark === undefined || mark >= observation.forecastMark) return [];
  observation.forecastMark = mark;
  const value = {
    remainingSeconds: Math.floor(left),
    bytesPerSecond: BigInt(Math.round(observation.bytesPerSecond)),
  };
  return [eventOf(observation.snapshot, { $case: 'overflowForecast', value })];
}

/** Looks at the trackers again and again, and whenever it is told to. */
export class Monitor {
  private observations = new Map<number, Observation>();
  /** One at a time; those who ask meanwhile share the next one, however long the driver takes. */
  private readonly looks = new Batches(() => this.lookOnce());

  constructor(
    private readonly list: () => Promise<Snapshot[]>,
    private readonly log: EventLog,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** What the last look found, in ascending minor. */
  get known(): Observation[] {
    return [...this.observations.values()];
  }

  /** Looks now. */
  look(): Promise<void> {
    return this.looks.get('all');
  }

  private async lookOnce(): Promise<void> {
    // Without the module there is no tracker; anything else is told by the next look that succeeds.
    const snapshots = await this.list().catch(() => undefined);
    if (snapshots) this.take(snapshots);
  }

  private take(snapshots: readonly Snapshot[]): void {
    const now = new Map<number, Observation>();
    const events: Event[] = [];
    for (const snapshot of snapshots) {
      const former = this.observations.get(snapshot.minor);
      const seen = observe(former, snapshot, this.nowMs());
      now.set(snapshot.minor, seen.observation);
      events.push(...seen.events);
    }
    for (const [minor, { snapshot }] of this.observations) {
      if (!now.has(minor)) events.push(stateChanged(snapshot, snapshot.state, undefined));
    }
    this.observations = now;
    if (events.length > 0) this.log.append(...events);
  }
}
