// SPDX-License-Identifier: Apache-2.0
// An image, served by a qemu-nbd of its own to this process alone.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrnoException } from '../../../agent/src/errors.js';
import { CliError } from '../errors.js';
import { NbdClient } from '../nbd/client.js';
import { imageAlone, imageName } from './qcow2.js';
import { missing, qemuFailure, whenFree } from './tools.js';

const START_MS = 60_000;
const POLL_MS = 5;
const MAX_STDERR = 4096;

export interface OpenOptions {
  /** Nothing is written. */
  readOnly?: boolean;
  /** Without the backing file: what the image does not hold itself reads as zeros. */
  alone?: boolean;
  /** Offer allocated(). */
  allocation?: boolean;
}

/** The server's process, and what it said before its end. */
class Server {
  private stderr = '';
  private failure: Error | undefined;
  private readonly ended: Promise<void>;
  private status: number | null = null;

  constructor(
    private readonly path: string,
    args: readonly string[],
  ) {
    // A process group of its own: a Ctrl-C is for us, and we end it in good order.
    const child: ChildProcess = spawn('qemu-nbd', args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
      env: { ...process.env, LC_ALL: 'C' },
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-MAX_STDERR);
    });
    this.kill = () => child.kill('SIGKILL');
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => {
        const isMissing = isErrnoException(error) && error.code === 'ENOENT';
        this.failure = isMissing ? missing('qemu-nbd') : new CliError(`qemu-nbd: ${error.message}`);
        resolve();
      });
      child.once('close', (status) => {
        this.status = status;
        if (status !== 0) this.failure ??= qemuFailure('qemu-nbd', this.path, this.stderr);
        resolve();
      });
    });
    void this.ended.then(() => (this.hasEnded = true));
  }

  readonly kill: () => void;
  private hasEnded = false;

  /** Rejects when it has ended before anybody could connect. */
  check(): void {
    if (!this.hasEnded) return;
    throw this.failure ?? new CliError(`qemu-nbd ended with ${String(this.status)}: ${this.path}`);
  }

  /** Waits for its end; rejects when that was not in good order. */
  async end(): Promise<void> {
    await this.ended;
    if (this.failure) throw this.failure;
  }
}

export class OpenImage {
  private constructor(
    readonly client: NbdClient,
    private readonly server: Server,
  ) {}

  /** Rejects with CliError: busy when another program holds the file for longer than a moment. */
  static async open(path: string, options: OpenOptions = {}): Promise<OpenImage> {
    return whenFree(() => OpenImage.start(path, options));
  }

  private static async start(path: string, options: OpenOptions): Promise<OpenImage> {
    const directory = await mkdtemp(join(tmpdir(), 'elio-nbd-'));
    const socket = join(directory, 'socket');
    try {
      const args = ['--socket', socket, '--discard=unmap'];
      if (options.readOnly === true) args.push('--read-only');
      if (options.allocation === true) args.push('--allocation-depth');
      args.push(options.alone === true ? imageAlone(path) : imageName(path));
      const server = new Server(path, args);
      try {
        const client = await connected(socket, server, options.allocation === true);
        return new OpenImage(client, server);
      } catch (error) {
        server.kill();
        throw error;
      }
    } finally {
      // Nobody else is to connect, and nothing is left when this process is killed.
      await rm(directory, { recursive: true, force: true });
    }
  }

  /** Ends the server, which completes the file; rejects when that failed. After writes: flush the client before. */
  async close(): Promise<void> {
    this.client.disconnect();
    await this.server.end();
  }

  /** Ends the server after a failure of which is told elsewhere. */
  async abandon(): Promise<void> {
    await this.close().catch(() => undefined);
  }
}

async function connected(socket: string, server: Server, allocation: boolean): Promise<NbdClient> {
  const untilMs = Date.now() + START_MS;
  for (;;) {
    try {
      return await NbdClient.connect(socket, allocation);
    } catch (error) {
      const notYet =
        isErrnoException(error) && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');
      if (!notYet) {
        // It listens before it opens the image, and says why it could not when it ends.
        await server.end();
        throw error;
      }
    }
    server.check();
    if (Date.now() > untilMs) throw new CliError('qemu-nbd did not begin within a minute');
    await sleep(POLL_MS);
  }
}
