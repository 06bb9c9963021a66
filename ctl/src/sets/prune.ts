// SPDX-License-Identifier: Apache-2.0
import { checkInterrupt } from '../interrupt.js';
import { drop } from './commit.js';
import { MAX_RUN, mergeRun } from './merge.js';
import type { PrunePlan } from './retention.js';
import type { BackupSet } from './set.js';
import { storageError } from './storage-error.js';

/** Carries a plan out. What is done stays done when it rejects. */
export async function prune(set: BackupSet, plan: PrunePlan, signal: AbortSignal): Promise<void> {
  try {
    for (const id of plan.drop) {
      checkInterrupt(signal);
      await drop(set.directory, id);
    }
    await set.load();
  } catch (error) {
    throw storageError(error, set.directory);
  }
  for (const run of plan.merge) {
    let left = run;
    while (left.length > 1) {
      checkInterrupt(signal);
      const part = left.slice(0, MAX_RUN);
      await mergeRun(
        set,
        part.map((id) => set.require(id)),
        signal,
      );
      left = left.slice(part.length - 1);
    }
  }
}
