// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';

/** What a finished command left: its exit status (128 + signal number when a signal ended it) and its output. */
export interface CommandResult {
  status: number;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  stdin?: Buffer | string;
  /** The command is killed and the call rejects after this time; without it there is no limit. */
  timeoutMs?: number;
  /** Pass the command's output on to stderr while it runs, beside collecting it. */
  echo?: boolean;
}

/** Runs a command to its end. A non-zero status is a result, not an error; a missing program or a time-out rejects. */
export function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new Error('an empty command cannot be run');
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let timedOut = false;
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            child.kill('SIGKILL');
          }, options.timeoutMs);
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout.push(chunk);
      if (options.echo) process.stderr.write(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr.push(chunk);
      if (options.echo) process.stderr.write(chunk);
    });
    // A command that ends without reading its input is judged by its status.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.stdin);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(new Error(`cannot run ${program}: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const result = {
        status: code ?? 128 + (signal === 'SIGKILL' ? 9 : 15),
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      };
      if (timedOut) {
        reject(
          new Error(
            `"${argv.join(' ')}" did not end within ${String(options.timeoutMs)} ms\n${result.stdout}${result.stderr}`,
          ),
        );
      } else resolve(result);
    });
  });
}

/** Runs a command that has to succeed and returns its stdout; otherwise rejects with its output. */
export async function checkCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.status !== 0) {
    const output = options.echo ? '' : `\n${result.stdout}${result.stderr}`.trimEnd();
    throw new Error(`"${argv.join(' ')}" failed with status ${String(result.status)}${output}`);
  }
  return result.stdout;
}

/** The command line that runs `argv` as root: through sudo when we are not. */
export function asRoot(argv: readonly string[]): string[] {
  return process.getuid?.() === 0 ? [...argv] : ['sudo', '-n', ...argv];
}

/** One line of progress for the person who waits, on stderr. */
export function say(message: string): void {
  process.stderr.write(`elio: ${message}\n`);
}
