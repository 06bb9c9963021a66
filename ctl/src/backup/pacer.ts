// SPDX-License-Identifier: Apache-2.0
// How fast a host may send: who reads no faster makes gRPC's flow control hold it back.
import { setTimeout as sleep } from 'node:timers/promises';

export interface PacerClock {
  nowMs(): number;
  /** Resolves after so long, or as soon as the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const systemClock: PacerClock = {
  nowMs: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => undefined),
};

/** Time that was not used is made up for, as far as this: timers are late, and disks are slow now and then. */
const MADE_UP_MS = 100;
/** A wait is at least so long: timers count in milliseconds, and a small message is worth less than one. */
const SHORTEST_WAIT_MS = 20;

/** A limit on what comes from one host, over all streams that share it. */
export class Pacer {
  private paidUntilMs = 0;

  constructor(
    private readonly bytesPerSecond: number,
    private readonly clock: PacerClock = systemClock,
  ) {}

  /** Takes note of what has come, and resolves when more may come. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.clock.nowMs();
    const startMs = Math.max(this.paidUntilMs, nowMs - MADE_UP_MS);
    this.paidUntilMs = startMs + (bytes / this.bytesPerSecond) * 1000;
    const waitMs = this.paidUntilMs - nowMs;
    if (waitMs >= SHORTEST_WAIT_MS) await this.clock.sleep(waitMs, signal);
  }
}
