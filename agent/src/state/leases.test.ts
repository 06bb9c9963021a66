// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Leases, type EndOfLease, type LeasedSnapshot } from './leases.js';

const one: LeasedSnapshot = { uuid: 'a', seqId: 1n };
const two: LeasedSnapshot = { uuid: 'a', seqId: 2n };

describe('leases', () => {
  let directory = '';
  let now = 0;
  const opened: Leases[] = [];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-leases-'));
    now = 0;
  });
  afterEach(async () => {
    for (const leases of opened.splice(0)) leases.close();
    await rm(directory, { recursive: true });
  });

  function open(onEnd: EndOfLease = () => Promise.resolve()): Leases {
    const leases = new Leases(join(directory, 'leases.json'), onEnd, () => now);
    opened.push(leases);
    return leases;
  }

  it('count down, begin anew with each use, and belong to one snapshot', async () => {
    const leases = open();
    await leases.grant(one, 60);
    now = 20_500;
    assert.deepEqual(leases.of(one), { durationSeconds: 60, remainingSeconds: 40 });
    leases.renew(two);
    assert.equal(leases.of(one)?.remainingSeconds, 40);
    leases.renew(one);
    assert.equal(leases.of(one)?.remainingSeconds, 60);
    assert.equal(leases.of(two), undefined);
    await leases.grant(two, 10);
    assert.equal(leases.of(one), undefined);
    await leases.grant(two, 0);
    assert.equal(leases.of(two), undefined);
  });

  it('outlive the agent, and begin anew then', async () => {
    await open().grant(one, 60);
    now = 50_000;
    const later = open();
    await later.load();
    assert.deepEqual(later.of(one), { durationSeconds: 60, remainingSeconds: 60 });
    await later.end('a');
    const last = open();
    await last.load();
    assert.equal(last.of(one), undefined);
  });

  it('end when nobody has used the snapshot, and not before', async () => {
    const ended: [LeasedSnapshot, number, boolean][] = [];
    await new Promise<void>((resolve, reject) => {
      const leases = open((snapshot, seconds, first) => {
        ended.push([snapshot, seconds, first]);
        // Its time is over by the clock, not by the timer.
        if (now < 2_000) reject(new Error('too early'));
        resolve();
        return Promise.resolve();
      });
      leases.grant(one, 1).then(() => {
        now = 900;
        leases.renew(one);
        setTimeout(() => {
          now = 2_000;
        }, 1_050);
      }, reject);
    });
    assert.deepEqual(ended, [[one, 1, true]]);
  });
});
