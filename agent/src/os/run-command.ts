// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';

/** Kept of what a command prints. */
const MAX_OUTPUT = 4096;

export interface CommandResult {
  /** 0: it succeeded. */
  status: number | undefined;
  /** The signal that ended it, or why it could not be started; empty: neither. */
  reason: string;
  timedOut: boolean;
  /** The end of what it printed, standard output and errors together. */
  output: string;
}

/** Runs a command without a shell; with all that it started it is killed when its time is over. Never rejects. */
export function runCommand(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
  timeoutMs: number,
): Promise<CommandResult> {
  return new Promise((resolve) => {
    let output = '';
    let timedOut = false;
    const child = spawn(command[0] ?? '', command.slice(1), {
      // A process group of its own can be killed as a whole.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], ...environment },
    });
    const killGroup = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // The last of them has ended by itself.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup();
    }, timeoutMs);
    const finish = (status: number | undefined, reason: string): void => {
      clearTimeout(timer);
      resolve({ status, reason, timedOut, output: output.trim() });
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        output = (output + text).slice(-MAX_OUTPUT);
      });
    }
    child.once('error', (error) => {
      finish(undefined, error.message);
    });
    // Not "close": a process in the background that the command left behind keeps its output open.
    child.once('exit', (status, signal) => {
      finish(status ?? undefined, signal ?? '');
    });
  });
}
