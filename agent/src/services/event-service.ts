// SPDX-License-Identifier: Apache-2.0
import type {
  EventServiceServer,
  WatchEventsRequest,
  WatchEventsResponse,
} from '../../../proto/gen/elio/v1/event.js';
import { timestamp, type EventLog } from '../events/event-log.js';
import { appeared, type Monitor } from '../events/monitor.js';
import { serverStream } from '../server/rpc.js';

/** Streams what happens to trackers. */
export class EventService {
  constructor(
    private readonly monitor: Monitor,
    private readonly log: EventLog,
  ) {}

  handlers(): EventServiceServer {
    return { watchEvents: serverStream((r, signal) => this.watch(r, signal)) };
  }

  private async *watch(
    r: WatchEventsRequest,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEventsResponse> {
    if (r.resumeToken !== '') {
      yield* this.log.watch(this.log.placeOf(r.resumeToken), signal);
      return;
    }
    await this.monitor.look();
    // What is there and the place behind it are taken at the same time: nothing is told twice or left out.
    const place = this.log.end;
    const events = this.monitor.known.map(({ snapshot }) => appeared(snapshot));
    const common = { resumeToken: this.log.token(place), time: timestamp(Date.now()) };
    for (const event of events) yield { ...event, ...common };
    yield* this.log.watch(place, signal);
  }
}
