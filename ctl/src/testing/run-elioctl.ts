// SPDX-License-Identifier: Apache-2.0
import { execFile } from 'node:child_process';
import { join } from 'node:path';

const dist = join(import.meta.dirname, '..', '..', '..');

/** This checkout's elioctl, as it is installed. */
export const elioctlMain = join(dist, 'bundle', 'bin', 'elioctl.mjs');

/** How a run ended. */
export interface RunResult {
  /** The exit status, or the signal that ended it. */
  status: number | string;
  stdout: string;
  stderr: string;
}

/** Runs elioctl to its end, whatever its status, with these variables beside those of this process. */
export function runElioctl(
  words: readonly string[],
  variables: NodeJS.ProcessEnv = {},
): Promise<RunResult> {
  return new Promise((resolve) => {
    const env = { ...process.env, ...variables };
    execFile(process.execPath, [elioctlMain, ...words], { env }, (error, stdout, stderr) => {
      const status = error ? (error.signal ?? Number(error.code)) : 0;
      resolve({ status, stdout, stderr });
    });
  });
}
