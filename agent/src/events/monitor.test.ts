// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Snapshot, TrackerState } from '../../../proto/gen/elio/v1/types.js';
import { EventLog, type Event } from './event-log.js';
import { Monitor, observe, secondsLeft, type Observation } from './monitor.js';

const MIB = 1 << 20;

function snapshot(changes: Partial<Snapshot> = {}): Snapshot {
  return {
    ...Snapshot.fromPartial({
      minor: 3,
      blockDevice: '/dev/vdb',
      state: TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT,
      cookie: { uuid: 'a', seqId: 1n, nonce: '' },
      cowUsedBytes: BigInt(MIB),
      cowSizeBytes: BigInt(100 * MIB),
    }),
    ...changes,
  };
}

const used = (mib: number): Snapshot => snapshot({ cowUsedBytes: BigInt(mib * MIB) });
const kinds = (events: readonly Event[]): (string | undefined)[] =>
  events.map(({ event }) => event?.$case);

/** Looks one after the other, `secondsApart`. */
function looks(
  snapshots: readonly Snapshot[],
  secondsApart: number,
): { events: Event[]; last: Observation } {
  let last: Observation | undefined;
  const events: Event[] = [];
  snapshots.forEach((now, i) => {
    const seen = observe(last, now, i * secondsApart * 1000);
    last = seen.observation;
    events.push(...seen.events);
  });
  assert.ok(last);
  return { events, last };
}

describe('what is observed of a tracker', () => {
  it('is a change of state, also to another snapshot of the same state', () => {
    const incremental = snapshot({ state: TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL });
    const next = snapshot({ cookie: { uuid: 'a', seqId: 2n, nonce: '' } });
    const { events } = looks([snapshot(), snapshot(), incremental, next, snapshot()], 1);
    assert.deepEqual(kinds(events), Array(4).fill('stateChanged'));
    const { event } = events[1] ?? {};
    assert.ok(event?.$case === 'stateChanged');
    assert.equal(event.value.from, TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT);
    assert.equal(event.value.to, TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL);
  });

  it('is a failure, once, with its reason', () => {
    const failed = snapshot({ error: -27 });
    const { events } = looks([snapshot(), failed, failed], 1);
    assert.deepEqual(kinds(events), ['stateChanged', 'failed']);
    const { event } = events[1] ?? {};
    assert.ok(event?.$case === 'failed');
    assert.equal(event.value.error, -27);
    assert.match(event.value.message, /overflowed.*EFBIG/);
  });

  it('is each mark that its COW file passes, once', () => {
    const { events } = looks([used(1), used(49), used(51), used(52), used(96), used(97)], 1e6);
    const marks = events.flatMap(({ event }) =>
      event?.$case === 'cowFill' ? [event.value.percent] : [],
    );
    assert.deepEqual(marks, [50, 80, 95]);
  });

  it('is that the COW file will overflow, once an hour and once ten minutes before', () => {
    // 1 MiB in 60 s: 98 minutes to go at first.
    const steady = Array.from({ length: 95 }, (_, i) => used(1 + i));
    const { events, last } = looks(steady, 60);
    const left = events.flatMap(({ event }) =>
      event?.$case === 'overflowForecast' ? [event.value.remainingSeconds] : [],
    );
    assert.equal(left.length, 2);
    assert.ok((left[0] ?? 0) < 3600 && (left[0] ?? 0) > 3000, String(left));
    assert.ok((left[1] ?? 0) < 600 && (left[1] ?? 0) > 400, String(left));
    assert.ok(secondsLeft(last) < 600);
    const quiet = looks([used(1), used(1)], 60);
    assert.equal(secondsLeft(quiet.last), Infinity);
  });

  it('is that it has gone', async () => {
    const log = new EventLog();
    let now = [snapshot()];
    const monitor = new Monitor(() => Promise.resolve(now), log);
    await monitor.look();
    assert.equal(monitor.known.length, 1);
    now = [];
    await monitor.look();
    assert.equal(monitor.known.length, 0);
    assert.equal(log.end, 2);
  });
});
