// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { WatchEventsResponse } from '../../../proto/gen/elio/v1/event.js';
import { AgentError } from '../errors.js';

/** Events kept for those who resume. */
export const EVENTS_KEPT = 1024;

/** An event without its place and its time. */
export type Event = Pick<WatchEventsResponse, 'minor' | 'blockDevice' | 'event'>;

interface Entry {
  timeMs: number;
  event: Event;
}

/**
 * The last events, in the order in which they were seen. Whoever watches has a place in it and nothing else: a watcher that is
 * slow costs no memory, and is told when it has missed something.
 */
export class EventLog {
  /** Another one for each run of the agent: a token of a former run names no place here. */
  private readonly run = randomBytes(8).toString('hex');
  private readonly entries: Entry[] = [];
  /** Number of the first entry that is kept. */
  private first = 0;
  private waiting: (() => void)[] = [];
  private closed = false;

  constructor(private readonly nowMs: () => number = Date.now) {}

  append(...events: Event[]): void {
    const timeMs = this.nowMs();
    this.entries.push(...events.map((event) => ({ timeMs, event })));
    const surplus = Math.max(0, this.entries.length - EVENTS_KEPT);
    this.entries.splice(0, surplus);
    this.first += surplus;
    this.wakeAll();
  }

  /** The agent ends: who watches is told to come again. */
  close(): void {
    this.closed = true;
    this.wakeAll();
  }

  private wakeAll(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const wake of waiting) wake();
  }

  /** The place behind the last event. */
  get end(): number {
    return this.first + this.entries.length;
  }

  token(place: number): string {
    return `${this.run}.${String(place)}`;
  }

  /** The place that a token names. Throws OUT_OF_RANGE when it names none (any more). */
  placeOf(token: string): number {
    const [run, text = ''] = token.split('.');
    const place = /^\d{1,15}$/.test(text) ? Number(text) : -1;
    if (run !== this.run || place > this.end) throw lost('it is of another run of the agent');
    this.check(place);
    return place;
  }

  private check(place: number): void {
    if (place < this.first)
      throw lost(`only the last ${String(EVENTS_KEPT)} events are kept, and more have come since`);
  }

  /** Events from a place on, without end; ends when the signal says so. Rejects with OUT_OF_RANGE when it is too slow. */
  async *watch(place: number, signal: AbortSignal): AsyncGenerator<WatchEventsResponse> {
    const isGone = (): boolean => signal.aborted;
    for (let at = place; !isGone(); at += 1) {
      while (at >= this.end) {
        if (this.closed) throw ending();
        await this.more(signal);
        if (isGone()) return;
      }
      this.check(at);
      const entry = this.entries[at - this.first];
      if (!entry) return;
      yield { ...entry.event, resumeToken: this.token(at + 1), time: timestamp(entry.timeMs) };
    }
  }

  private more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', gone);
        resolve();
      };
      const gone = (): void => {
        this.waiting = this.waiting.filter((other) => other !== wake);
        resolve();
      };
      signal.addEventListener('abort', gone, { once: true });
      this.waiting.push(wake);
    });
  }
}

export function timestamp(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.floor(ms % 1000) * 1_000_000 };
}

function ending(): AgentError {
  return new AgentError(
    status.UNAVAILABLE,
    'AGENT_STOPS',
    'the agent stops: watch again when it is there again',
  );
}

function lost(why: string): AgentError {
  return new AgentError(
    status.OUT_OF_RANGE,
    'EVENTS_LOST',
    `events cannot be told from this token on: ${why}; list the snapshots and watch anew without a token`,
  );
}
