// SPDX-License-Identifier: Apache-2.0
// QEMU's programs for disk images, which are not ours: they may be missing, or older.
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { isErrnoException } from '../../../agent/src/errors.js';
import { CliError, EXIT } from '../errors.js';

export const PACKAGE = 'qemu-utils';

/** The qemu-nbd of a run that was killed has the file open until it has seen that. */
const LOCKED_MS = 5000;
const LOCKED_POLL_MS = 100;

/** Chains are long and messages are short; `map` and its like are not used. */
const MAX_OUTPUT = 16 << 20;

/** The error of a program that could not be started. */
export function missing(program: string): CliError {
  return new CliError(
    `the program ${program} is missing, and backup sets need it: apt-get install ${PACKAGE}`,
  );
}

/** What qemu said, on one line and without its own name. */
export function qemuMessage(stderr: string): string {
  const lines = stderr.trim().split('\n');
  return lines.map((line) => line.replace(/^qemu-(?:img|nbd): /, '')).join('; ');
}

/** A failure of a program; what the system refused has its `code`, and a file that another process has open is busy. */
export function qemuFailure(program: string, path: string, stderr: string): Error {
  const [, code] = SYSTEM_REFUSALS.find(([text]) => text.test(stderr)) ?? [];
  if (code !== undefined) return Object.assign(new Error(`${path}: ${code}`), { code });
  if (/Failed to get (?:shared )?"\w+" lock/i.test(stderr)) {
    return new CliError(
      `${path} is in use by another program: end the virtual machine, the mount or the copy that uses it`,
      EXIT.busy,
    );
  }
  return new CliError(`${program} cannot work with ${path}: ${qemuMessage(stderr)}`);
}

/** Does a task again for a moment while another program has the file open. */
export async function whenFree<T>(task: () => Promise<T>): Promise<T> {
  const untilMs = Date.now() + LOCKED_MS;
  for (;;) {
    try {
      return await task();
    } catch (error) {
      const locked = error instanceof CliError && error.exitCode === EXIT.busy;
      if (!locked || Date.now() > untilMs) throw error;
      await sleep(LOCKED_POLL_MS);
    }
  }
}

const SYSTEM_REFUSALS: readonly (readonly [RegExp, string])[] = [
  [/No space left on device/, 'ENOSPC'],
  [/Disk quota exceeded/, 'EDQUOT'],
  [/Read-only file system/, 'EROFS'],
];

export interface ToolResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end; rejects with CliError only when it cannot be started. */
export async function runTool(program: string, args: readonly string[]): Promise<ToolResult> {
  try {
    const options = { maxBuffer: MAX_OUTPUT, env: { ...process.env, LC_ALL: 'C' } };
    const { stdout, stderr } = await promisify(execFile)(program, args, options);
    return { status: 0, stdout, stderr };
  } catch (error) {
    if (isErrnoException(error) && error.code === 'ENOENT') throw missing(program);
    const failed = error as { code?: unknown; stdout?: string; stderr?: string };
    return {
      status: typeof failed.code === 'number' ? failed.code : 128,
      stdout: failed.stdout ?? '',
      stderr: failed.stderr ?? String(error),
    };
  }
}

/** The version of qemu-img, such as 7.2.22. */
export async function qemuVersion(): Promise<string> {
  const { stdout } = await runTool('qemu-img', ['--version']);
  return /version (\S+)/.exec(stdout)?.[1] ?? '';
}

/** Rejects when a program is missing: better before anything has begun. */
export async function requireTools(): Promise<void> {
  for (const program of ['qemu-nbd', 'qemu-img']) await runTool(program, ['--version']);
}
