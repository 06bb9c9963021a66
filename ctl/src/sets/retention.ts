// SPDX-License-Identifier: Apache-2.0
// Which backups of a set go, and how: without breaking the chain of one that stays.
import type { SetManifest } from './manifest.js';

const DAY_MS = 24 * 3600 * 1000;

/** A backup stays if one of these wants it. */
export interface Retention {
  /** The newest ones. */
  keepLast?: number | undefined;
  /** Those of so many days. */
  keepDays?: number | undefined;
}

/** Steps, to be taken in their order. */
export interface PrunePlan {
  /** The backups that there are afterwards. */
  keep: number[];
  /** On these no other one builds, once the ones before are gone. */
  drop: number[];
  /** Each run of backups that follow each other becomes its last one. */
  merge: number[][];
}

/**
 * Plans a prune. The newest backup stays whatever is asked for: the next one builds on it. Which ones are newer is told by
 * their numbers; a time that is in the future counts as now.
 */
export function planPrune(
  backups: readonly SetManifest[],
  { keepLast, keepDays }: Retention,
  now: Date,
): PrunePlan {
  const kept = new Set<number>();
  const newestFirst = [...backups].reverse();
  newestFirst.forEach(({ id, created }, i) => {
    const ageDays = (now.getTime() - Date.parse(created)) / DAY_MS;
    const wanted = i < (keepLast ?? 0) || (keepDays !== undefined && ageDays <= keepDays);
    if (i === 0 || wanted) kept.add(id);
  });
  const gone = new Set<number>();
  const drop: number[] = [];
  for (const { id } of newestFirst) {
    if (kept.has(id)) continue;
    if (backups.some(({ id: other, parent }) => parent === id && !gone.has(other))) continue;
    drop.push(id);
    gone.add(id);
  }
  const merge = runs(backups, kept, gone);
  for (const id of merge.flatMap((run) => run.slice(0, -1))) gone.add(id);
  const keep = backups.map(({ id }) => id).filter((id) => !gone.has(id));
  return { keep, drop, merge };
}

/** The backups that go although others build on them: each run, from the first one that goes to the one that stays. */
function runs(
  backups: readonly SetManifest[],
  kept: ReadonlySet<number>,
  gone: ReadonlySet<number>,
): number[][] {
  const left = backups.filter(({ id }) => !gone.has(id));
  // Of what several build on nothing can be taken away.
  const isGoing = ({ id }: SetManifest): boolean =>
    !kept.has(id) && left.filter(({ parent }) => parent === id).length === 1;
  return left
    .filter((one) => !isGoing(one))
    .map((last) => {
      const run = [last.id];
      for (let { parent } = last; ;) {
        const below = left.find(({ id }) => id === parent);
        if (!below || !isGoing(below)) return run;
        run.unshift(below.id);
        ({ parent } = below);
      }
    })
    .filter((run) => run.length > 1);
}
