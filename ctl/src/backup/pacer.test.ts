// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Pacer, type PacerClock } from './pacer.js';

const MIB = 1 << 20;

/** Time passes only while somebody sleeps, and when the test says so. */
class TestClock implements PacerClock {
  now = 5000;
  sleeps = 0;

  nowMs(): number {
    return this.now;
  }

  sleep(ms: number): Promise<void> {
    this.sleeps += 1;
    this.now += ms;
    return Promise.resolve();
  }
}

describe('a pacer', () => {
  const { signal } = new AbortController();
  let clock: TestClock;
  let pacer: Pacer;

  beforeEach(() => {
    clock = new TestClock();
    pacer = new Pacer(10 * MIB, clock);
  });

  async function secondsFor(messages: number, bytes: number): Promise<number> {
    const startedMs = clock.now;
    for (let i = 0; i < messages; i += 1) await pacer.take(bytes, signal);
    return (clock.now - startedMs) / 1000;
  }

  it('lets no more through than its rate, whatever the size of the messages', async () => {
    for (const bytes of [4096, 65_536, MIB]) {
      const seconds = await secondsFor((50 * MIB) / bytes, bytes);
      assert.ok(
        Math.abs(seconds - 5) < 0.13,
        `${String(seconds)} s for messages of ${String(bytes)}`,
      );
    }
  });

  it('waits for many small messages at once', async () => {
    await secondsFor(2560, 4096);
    assert.ok(clock.sleeps <= 50, `${String(clock.sleeps)} waits`);
  });

  it('does not wait while the other end is slower than the limit', async () => {
    for (let i = 0; i < 100; i += 1) {
      clock.now += 110;
      await pacer.take(MIB, signal);
    }
    assert.equal(clock.sleeps, 0);
  });

  it('makes up for a short pause only: a long one is no leave for a flood', async () => {
    await secondsFor(10, MIB);
    clock.now += 60_000;
    const seconds = await secondsFor(50, MIB);
    assert.ok(seconds > 4.8, `${String(seconds)} s`);
  });

  it('stops waiting when it is interrupted', async () => {
    const controller = new AbortController();
    const wait = new Pacer(1).take(3600, controller.signal);
    controller.abort();
    await wait;
  });
});
