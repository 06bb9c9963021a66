// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { SetManifest } from './manifest.js';
import { planPrune, type PrunePlan, type Retention } from './retention.js';

const now = new Date('2026-06-30T12:00:00Z');

/** Backups that are given as [id, parent, age in days]. */
function plan(
  backups: readonly (readonly [number, number | null, number])[],
  retention: Retention,
): PrunePlan {
  const manifests = backups.map(([id, parent, ageDays]) => ({
    id,
    parent,
    created: new Date(now.getTime() - ageDays * 24 * 3600 * 1000).toISOString(),
  }));
  return planPrune(manifests as SetManifest[], retention, now);
}

const chain = [
  [1, null, 4],
  [2, 1, 3],
  [3, 2, 2],
  [4, 3, 1],
] as const;

describe('retention', () => {
  it('merges what goes into the oldest that stays', () => {
    assert.deepEqual(plan(chain, { keepLast: 2 }), {
      keep: [3, 4],
      drop: [],
      merge: [[1, 2, 3]],
    });
  });

  it('deletes a chain on which nothing builds that stays', () => {
    const backups = [...chain, [5, null, 0], [6, 5, 0]] as const;
    assert.deepEqual(plan(backups, { keepLast: 2 }), {
      keep: [5, 6],
      drop: [4, 3, 2, 1],
      merge: [],
    });
    assert.deepEqual(plan(backups, { keepLast: 4 }), {
      keep: [3, 4, 5, 6],
      drop: [],
      merge: [[1, 2, 3]],
    });
  });

  it('keeps what one of the two wants, and always the newest', () => {
    assert.deepEqual(plan(chain, { keepDays: 2 }).keep, [3, 4]);
    assert.deepEqual(plan(chain, { keepDays: 2, keepLast: 3 }).keep, [2, 3, 4]);
    assert.deepEqual(plan([[1, null, 400]], { keepDays: 1 }), { keep: [1], drop: [], merge: [] });
  });

  it('goes by numbers where clocks have jumped', () => {
    const backups = [
      [1, null, -300],
      [2, 1, 900],
      [3, 2, 800],
    ] as const;
    assert.deepEqual(plan(backups, { keepLast: 1 }).merge, [[1, 2, 3]]);
    // What claims to be of the future stays; the newest stays whatever it claims.
    assert.deepEqual(plan(backups, { keepDays: 1 }), { keep: [1, 3], drop: [], merge: [[2, 3]] });
  });

  it('takes nothing away from under several backups', () => {
    const backups = [
      [1, null, 3],
      [2, 1, 2],
      [3, 1, 0],
    ] as const;
    assert.deepEqual(plan(backups, { keepLast: 2 }), { keep: [1, 2, 3], drop: [], merge: [] });
    assert.deepEqual(plan(backups, { keepLast: 1 }), { keep: [3], drop: [2], merge: [[1, 3]] });
  });
});
