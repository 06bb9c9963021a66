// SPDX-License-Identifier: Apache-2.0
// Events as people and scripts see them, a line each.
import type { WatchEventsResponse } from '../../proto/gen/elio/v1/event.js';
import { TrackerState } from '../../proto/gen/elio/v1/types.js';
import { formatBytes, formatDuration } from './output.js';
import { cookieJson, stateName } from './snapshots.js';

function stateText(state: TrackerState): string {
  return state === TrackerState.TRACKER_STATE_UNSPECIFIED ? 'none' : stateName(state);
}

/** The keys of an event's own, and what it says in words. */
function describe(event: NonNullable<WatchEventsResponse['event']>): {
  kind: string;
  json: object;
  text: string;
} {
  switch (event.$case) {
    case 'stateChanged': {
      const [from, to] = [stateText(event.value.from), stateText(event.value.to)];
      const { cookie } = event.value;
      const json = {
        from,
        to,
        cookie: cookie ? cookieJson(cookie) : null,
      };
      return { kind: 'state_changed', json, text: `state: ${from} -> ${to}` };
    }
    case 'cowFill': {
      const { percent, usedBytes, sizeBytes } = event.value;
      return {
        kind: 'cow_fill',
        json: { percent, used_bytes: Number(usedBytes), size_bytes: Number(sizeBytes) },
        text: `the COW file is ${String(percent)} % full (${formatBytes(usedBytes)} of ${formatBytes(sizeBytes)})`,
      };
    }
    case 'overflowForecast': {
      const { remainingSeconds, bytesPerSecond } = event.value;
      return {
        kind: 'overflow_forecast',
        json: { remaining_seconds: remainingSeconds, bytes_per_second: Number(bytesPerSecond) },
        text: `the COW file will overflow in ${formatDuration(remainingSeconds)} at ${formatBytes(bytesPerSecond)}/s`,
      };
    }
    case 'failed': {
      const { error, message } = event.value;
      return {
        kind: 'failed',
        json: { error, message },
        text: `failed (${String(error)}): ${message}`,
      };
    }
    case 'leaseEnded': {
      const { durationSeconds } = event.value;
      return {
        kind: 'lease_ended',
        json: { duration_seconds: durationSeconds },
        text: `not used for the ${formatDuration(durationSeconds)} of its lease`,
      };
    }
  }
}

function timeOf({ time }: WatchEventsResponse): string {
  const ms = Number(time?.seconds ?? 0n) * 1000 + Math.floor((time?.nanos ?? 0) / 1e6);
  return new Date(ms).toISOString();
}

/** The keys of each event: time, host, minor, block_device, event, resume_token; then those of its kind. Sizes are bytes. */
export function eventJson(host: string, response: WatchEventsResponse): object {
  const { event, minor, blockDevice, resumeToken } = response;
  // An agent newer than this program may tell of what it does not know.
  const { kind, json } = event ? describe(event) : { kind: 'unknown', json: {} };
  return {
    time: timeOf(response),
    host,
    minor,
    block_device: blockDevice,
    event: kind,
    ...json,
    resume_token: resumeToken,
  };
}

/** 2026-01-31T12:00:00.000Z db1 0 /dev/vdb state: none -> snapshot */
export function eventLine(host: string, response: WatchEventsResponse): string {
  const { event, minor, blockDevice } = response;
  const text = event ? describe(event).text : 'something that this elioctl does not know';
  return `${timeOf(response)} ${host} ${String(minor)} ${blockDevice} ${text}`;
}
