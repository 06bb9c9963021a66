// SPDX-License-Identifier: Apache-2.0
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { CommandResult } from './process.js';

/** ssh's own status when the connection is lost. */
const lostStatus = 255;

/** What has come of one stream of a command: all of it once the line with the mark is complete. */
class Output {
  #text = '';
  readonly #end: RegExp;

  constructor(private readonly mark: string) {
    this.#end = new RegExp(`${mark}(\\d*)\n`);
  }

  add(chunk: string): void {
    this.#text += chunk;
  }

  /** What the command has written. */
  get text(): string {
    return this.#text.split(this.mark, 1)[0] ?? '';
  }

  /** The number behind the mark, once its line is complete. */
  get end(): string | undefined {
    return this.#end.exec(this.#text)?.[1];
  }
}

/**
 * A shell in a guest that runs one command after another. It saves what a session of ssh costs in an emulated guest: two
 * processes, which is more than most commands do.
 */
export class RemoteShell {
  readonly #ssh: ChildProcessWithoutNullStreams;
  #lost = false;

  /** `argv` is the command that runs a shell in the guest, which reads its commands from stdin. */
  constructor(argv: readonly string[]) {
    const [program = '', ...args] = argv;
    this.#ssh = spawn(program, args);
    this.#ssh.stdin.on('error', () => undefined);
    for (const stream of [this.#ssh.stdout, this.#ssh.stderr]) stream.setEncoding('utf8');
    this.#ssh.once('close', () => (this.#lost = true));
  }

  /** Has the guest or the connection gone, or `close` been called? */
  get lost(): boolean {
    return this.#lost;
  }

  /**
   * Runs a command in a subshell, without input; what it leaves in the background goes on. Status 255 when the guest is gone.
   * After a time-out, which rejects, the shell is lost; the command may go on.
   */
  run(command: string, timeoutMs: number): Promise<CommandResult> {
    const mark = randomUUID();
    const stdout = new Output(mark);
    const stderr = new Output(mark);
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#ssh.stdout.removeAllListeners('data');
        this.#ssh.stderr.removeAllListeners('data');
        this.#ssh.removeListener('close', lost);
        settle();
      };
      const result = (status: number): CommandResult => ({
        status,
        stdout: stdout.text,
        stderr: stderr.text,
      });
      const lost = (): void => {
        finish(() => {
          resolve(result(lostStatus));
        });
      };
      const timer = setTimeout(() => {
        this.close();
        const { stdout: out, stderr: err } = result(0);
        finish(() => {
          reject(
            new Error(`"${command}" did not end within ${String(timeoutMs)} ms\n${out}${err}`),
          );
        });
      }, timeoutMs);
      const received = (output: Output) => (chunk: string) => {
        output.add(chunk);
        const status = stdout.end;
        if (status === undefined || stderr.end === undefined) return;
        finish(() => {
          resolve(result(Number(status)));
        });
      };
      this.#ssh.stdout.on('data', received(stdout));
      this.#ssh.stderr.on('data', received(stderr));
      this.#ssh.once('close', lost);
      if (this.#lost) lost();
      const quoted = `'${command.replaceAll("'", `'\\''`)}'`;
      this.#ssh.stdin.write(`(eval ${quoted}) < /dev/null; echo ${mark}$?; echo ${mark} >&2\n`);
    });
  }

  close(): void {
    this.#lost = true;
    this.#ssh.kill('SIGKILL');
  }
}
