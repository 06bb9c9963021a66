// SPDX-License-Identifier: Apache-2.0
// Where tests break a backup, as a power cut would: ELIO_TEST_STOP_AT names the step at which the process kills itself;
// ELIO_TEST_STOP_BY, by which signal, such as the SIGINT of a user, who gives it once: a second one would end the process at once.

/** Steps of every backup, in order, that are there whatever its type. */
const COMMON_STEPS = ['snapshot-taken', 'half-streamed'] as const;

/** Steps of an incremental backup, in order. */
export const INCREMENT_STEPS = [
  ...COMMON_STEPS,
  'journal-complete',
  'half-applied',
  'applied',
  'manifest-in-place',
  'committed',
  'old-cow-file-deleted',
] as const;

/** Steps of a full backup, in order. */
export const FULL_STEPS = [
  ...COMMON_STEPS,
  'full-complete',
  'full-in-place',
  'committed',
  'old-cow-file-deleted',
] as const;

/** Steps of a backup in a set, in order. */
export const SET_STEPS = [
  ...COMMON_STEPS,
  'layer-complete',
  'layer-committed',
  'layer-in-place',
  'committed',
  'old-cow-file-deleted',
] as const;

/** Steps of the care for what a run that is killed leaves, in a transfer that is long or goes on. */
export const RESUME_STEPS = [
  'progress-synced',
  'progress-recorded',
  'unfinished-proven',
  'unfinished-cut',
  'gone-on',
] as const;

/** Steps of a merge in a set, in order. */
export const MERGE_STEPS = [
  'merge-verified',
  'merge-begun',
  'merge-half-copied',
  'merge-copied',
  'merge-in-place',
  'merge-manifest-in-place',
] as const;

/** Steps of the deletion of a backup in a set, in order. */
export const DROP_STEPS = ['drop-begun', 'drop-half-done'] as const;

/** Steps of a look at the files of a backup in a set, in order. */
export const MOUNT_STEPS = ['mount-connected', 'mount-mounted'] as const;

export type BackupStep =
  | (typeof INCREMENT_STEPS)[number]
  | (typeof FULL_STEPS)[number]
  | (typeof SET_STEPS)[number]
  | (typeof RESUME_STEPS)[number]
  | (typeof MERGE_STEPS)[number]
  | (typeof DROP_STEPS)[number]
  | (typeof MOUNT_STEPS)[number];

/** Marks that a step has been reached. */
export function atStep(step: BackupStep): void {
  if (process.env['ELIO_TEST_STOP_AT'] !== step) return;
  delete process.env['ELIO_TEST_STOP_AT'];
  process.kill(process.pid, process.env['ELIO_TEST_STOP_BY'] ?? 'SIGKILL');
}
