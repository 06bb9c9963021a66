// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { WatchEventsResponse } from '../../../proto/gen/elio/v1/event.js';
import { EVENTS_KEPT, EventLog, type Event } from './event-log.js';

function event(minor: number): Event {
  return { minor, blockDevice: '/dev/vdb', event: undefined };
}

async function take(
  events: AsyncGenerator<WatchEventsResponse>,
  count: number,
): Promise<WatchEventsResponse[]> {
  const taken: WatchEventsResponse[] = [];
  while (taken.length < count) {
    const next = await events.next();
    if (next.done === true) break;
    taken.push(next.value);
  }
  return taken;
}

const refusal = (reason: string): object => ({ name: 'AgentError', reason });

describe('the event log', () => {
  const abort = new AbortController();

  it('tells what comes, and goes on behind the token of the last event that was seen', async () => {
    const log = new EventLog(() => 1_500);
    const watcher = log.watch(log.end, abort.signal);
    const first = take(watcher, 2);
    log.append(event(1));
    log.append(event(2), event(3));
    const seen = await first;
    assert.deepEqual(
      seen.map(({ minor }) => minor),
      [1, 2],
    );
    assert.deepEqual(seen[0]?.time, { seconds: 1n, nanos: 500_000_000 });
    const rest = await take(log.watch(log.placeOf(seen[1]?.resumeToken ?? ''), abort.signal), 1);
    assert.equal(rest[0]?.minor, 3);
  });

  it('refuses tokens of another run, of the future, and of none', () => {
    const log = new EventLog();
    const other = new EventLog();
    for (const token of [other.token(0), log.token(1), 'x', `${log.token(0)}9`, `${log.token(0)}x`])
      assert.throws(() => log.placeOf(token), refusal('EVENTS_LOST'), token);
    assert.equal(log.placeOf(log.token(0)), 0);
  });

  it('keeps the last events, and tells whoever was too slow that some are lost', async () => {
    const log = new EventLog();
    const slow = log.watch(log.end, abort.signal);
    const start = log.token(0);
    for (let minor = 0; minor <= EVENTS_KEPT; minor += 1) log.append(event(minor));
    await assert.rejects(take(slow, 1), refusal('EVENTS_LOST'));
    assert.throws(() => log.placeOf(start), refusal('EVENTS_LOST'));
    const kept = await take(log.watch(log.placeOf(log.token(1)), abort.signal), EVENTS_KEPT);
    assert.equal(kept.at(-1)?.minor, EVENTS_KEPT);
  });

  it('lets go of a watcher that goes away, and of all when the agent ends', async () => {
    const log = new EventLog();
    const gone = new AbortController();
    const first = take(log.watch(log.end, gone.signal), 1);
    const second = take(log.watch(log.end, abort.signal), 1);
    gone.abort();
    assert.deepEqual(await first, []);
    log.close();
    await assert.rejects(second, refusal('AGENT_STOPS'));
  });
});
