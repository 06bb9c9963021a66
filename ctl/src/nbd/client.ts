// SPDX-License-Identifier: Apache-2.0
// A client of an NBD server on a unix socket. It keeps several requests on their way, because a server such as qemu-nbd works
// on several at once, and because of small requests most of the time would be spent on waiting.
import { connect, type Socket } from 'node:net';
import { CliError, messageOf } from '../errors.js';
import { ByteReader } from './byte-reader.js';
import * as nbd from './protocol.js';

/** Requests on their way at most, and the bytes in them: beyond that a writer waits. */
const MAX_REQUESTS = 64;
const MAX_BYTES = 8 << 20;
/** What a single request asks for at most; a multiple of every cluster size. */
const MAX_ZERO_LENGTH = 1 << 30;
const MAX_STATUS_LENGTH = 1 << 30;

/** A range of bytes. */
export interface Extent {
  offset: number;
  length: number;
}

interface Request {
  what: string;
  offset: number;
  /** Where the data of a read go. */
  buffer: Buffer | undefined;
  /** Extents of a status, as pairs of length and flags. */
  extents: number[];
  failure: Error | undefined;
  done(): void;
}

export class NbdClient {
  private readonly bytes: ByteReader;
  private readonly requests = new Map<number, Request>();
  private nextCookie = 1;
  /** Requests that are on their way, or may go at once; and the bytes of data in them. */
  private granted = 0;
  private grantedBytes = 0;
  /** Who waits for others to be answered: to send a request, in their order, or until there are none. */
  private waiting: { bytes: number; wake: () => void }[] = [];
  private waitingForIdle: (() => void)[] = [];
  /** The first failure of a write, or the end of the connection: nothing works after it. */
  private failure: Error | undefined;
  private size = 0;

  private constructor(private readonly socket: Socket) {
    this.bytes = new ByteReader(socket);
  }

  /**
   * Connects to a socket and chooses its export without a name. With `allocation` its server has to be qemu-nbd
   * --allocation-depth. Rejects with the error of the socket, or with Error when the server does not speak as expected.
   */
  static async connect(path: string, allocation = false): Promise<NbdClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new NbdClient(socket);
    try {
      await client.negotiate(allocation);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    void client.receive();
    return client;
  }

  /** Bytes of the export. */
  get sizeBytes(): number {
    return this.size;
  }

  /**
   * Sends data, which must stay as they are until the next flush() has resolved. Resolves when there is room for another
   * request; a failure of the server shows in a later call, at latest in flush().
   */
  async write(offset: number, data: Buffer): Promise<void> {
    await this.room(data.length);
    void this.send(nbd.COMMAND.write, offset, data.length, { data }).catch(this.keepFailure);
  }

  /** Makes a range zero, without storing zeros where the server can avoid it. Resolves and fails as write() does. */
  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += MAX_ZERO_LENGTH) {
      await this.room(0);
      const n = Math.min(MAX_ZERO_LENGTH, length - done);
      void this.send(nbd.COMMAND.zero, offset + done, n).catch(this.keepFailure);
    }
  }

  /** Fills a buffer. */
  async read(offset: number, buffer: Buffer): Promise<void> {
    await this.room(buffer.length);
    await this.send(nbd.COMMAND.read, offset, buffer.length, { buffer });
  }

  /** Resolves when all writes have been made, and are on disk. */
  async flush(): Promise<void> {
    while (this.requests.size > 0 && !this.failure) {
      await new Promise<void>((resolve) => this.waitingForIdle.push(resolve));
    }
    await this.room(0);
    await this.send(nbd.COMMAND.flush, 0, 0);
  }

  /** The ranges that the image itself holds, zeros among them, ascending; not those of its backing files. */
  async *allocated(): AsyncGenerator<Extent> {
    let offset = 0;
    let current: Extent | undefined;
    while (offset < this.size) {
      const length = Math.min(MAX_STATUS_LENGTH, this.size - offset);
      await this.room(0);
      const { extents } = await this.send(nbd.COMMAND.status, offset, length);
      for (let i = 0; i + 1 < extents.length; i += 2) {
        const extent = { offset, length: extents[i] ?? 0 };
        offset += extent.length;
        if (extents[i + 1] !== 1) continue;
        if (current && current.offset + current.length === extent.offset) {
          current.length += extent.length;
          continue;
        }
        if (current) yield current;
        current = extent;
      }
      if (extents.length === 0) throw new Error('the NBD server tells nothing of its allocation');
    }
    if (current) yield current;
  }

  /** Ends the connection in the way that makes qemu-nbd end, too. */
  disconnect(): void {
    if (!this.failure) this.socket.write(nbd.request(nbd.COMMAND.disconnect, 0, 0, 0));
    this.socket.end();
  }

  private readonly keepFailure = (error: unknown): void => {
    this.failure ??= error instanceof Error ? error : new Error(String(error));
    const wakeAll = [...this.waiting.map(({ wake }) => wake), ...this.waitingForIdle];
    this.waiting = [];
    this.waitingForIdle = [];
    for (const wake of wakeAll) wake();
  };

  /** Resolves when a request with so many bytes of data may be sent, which the caller does at once. */
  private async room(bytes: number): Promise<void> {
    if (!this.failure && (this.waiting.length > 0 || !this.hasRoom)) {
      await new Promise<void>((wake) => this.waiting.push({ bytes, wake }));
    } else this.grant(bytes);
    if (this.failure) throw this.failure;
  }

  private get hasRoom(): boolean {
    return this.granted < MAX_REQUESTS && this.grantedBytes < MAX_BYTES;
  }

  private grant(bytes: number): void {
    this.granted += 1;
    this.grantedBytes += bytes;
  }

  /** A request was answered: those go on that have room now, and no others, which would only look and wait again. */
  private answered(bytes: number): void {
    this.granted -= 1;
    this.grantedBytes -= bytes;
    while (this.hasRoom) {
      const next = this.waiting.shift();
      if (!next) break;
      this.grant(next.bytes);
      next.wake();
    }
    if (this.requests.size > 0) return;
    const { waitingForIdle } = this;
    this.waitingForIdle = [];
    for (const wake of waitingForIdle) wake();
  }

  private send(
    command: number,
    offset: number,
    length: number,
    { data, buffer }: { data?: Buffer; buffer?: Buffer } = {},
  ): Promise<Request> {
    const cookie = this.nextCookie;
    this.nextCookie = cookie === 0xffffffff ? 1 : cookie + 1;
    const transferred = (data ?? buffer)?.length ?? 0;
    return new Promise((resolve, reject) => {
      const request: Request = {
        what: `NBD command ${String(command)} at byte ${String(offset)}`,
        offset,
        buffer,
        extents: [],
        failure: undefined,
        done: () => {
          this.requests.delete(cookie);
          if (request.failure) reject(request.failure);
          else resolve(request);
          this.answered(transferred);
        },
      };
      this.requests.set(cookie, request);
      if (this.failure) {
        request.failure = this.failure;
        request.done();
        return;
      }
      this.socket.cork();
      this.socket.write(nbd.request(command, cookie, offset, length));
      if (data) this.socket.write(data);
      // Requests of one turn of the event loop go in one system call.
      process.nextTick(() => {
        this.socket.uncork();
      });
    });
  }

  private async negotiate(allocation: boolean): Promise<void> {
    const greeting = await this.bytes.take(18);
    const isNbd =
      greeting.readBigUInt64BE(0) === nbd.INIT_MAGIC &&
      greeting.readBigUInt64BE(8) === nbd.OPTION_MAGIC;
    if (!isNbd) throw new Error('this is no NBD server');
    const flags = Buffer.alloc(4);
    flags.writeUInt32BE(nbd.HANDSHAKE.fixedNewstyle | nbd.HANDSHAKE.noZeroes);
    this.socket.write(flags);
    await this.choose(nbd.option(nbd.OPTION.structuredReply, Buffer.alloc(0)));
    if (allocation) {
      const contexts = await this.choose(nbd.metaContextOption(nbd.ALLOCATION_DEPTH));
      if (contexts.length === 0) throw new Error('the NBD server cannot tell its allocation');
    }
    for (const info of await this.choose(nbd.goOption())) {
      if (info.readUInt16BE(0) === nbd.INFO_EXPORT) this.size = Number(info.readBigUInt64BE(2));
    }
  }

  /** Sends an option and returns what the server said before its acknowledgement. */
  private async choose(message: Buffer): Promise<Buffer[]> {
    this.socket.write(message);
    const answers: Buffer[] = [];
    for (;;) {
      const header = await this.bytes.take(20);
      const type = header.readUInt32BE(12);
      const length = header.readUInt32BE(16);
      const data = length > 0 ? await this.bytes.take(length) : Buffer.alloc(0);
      if (header.readBigUInt64BE(0) !== nbd.OPTION_REPLY_MAGIC || type >= nbd.OPTION_ERROR) {
        const code = header.readUInt32BE(8);
        throw new Error(`the NBD server refused option ${String(code)}: ${data.toString()}`);
      }
      if (type === nbd.OPTION_REPLY.ack) return answers;
      answers.push(data);
    }
  }

  private async receive(): Promise<void> {
    try {
      for (;;) {
        const magic = (await this.bytes.take(4)).readUInt32BE(0);
        if (magic === nbd.SIMPLE_REPLY_MAGIC) await this.simpleReply();
        else if (magic === nbd.STRUCTURED_REPLY_MAGIC) await this.structuredReply();
        else throw new Error('the NBD server sent what is no reply');
      }
    } catch (error) {
      this.keepFailure(new CliError(`the connection to the NBD server broke: ${messageOf(error)}`));
      this.socket.destroy();
      for (const request of [...this.requests.values()]) {
        request.failure ??= this.failure;
        request.done();
      }
    }
  }

  private requestOf(cookie: bigint): Request {
    const request = this.requests.get(Number(cookie));
    if (!request) throw new Error('the NBD server answered what nobody asked');
    return request;
  }

  private async simpleReply(): Promise<void> {
    const header = await this.bytes.take(12);
    const errno = header.readUInt32BE(0);
    const request = this.requestOf(header.readBigUInt64BE(4));
    if (errno !== 0) request.failure = new nbd.NbdError(request.what, errno);
    request.done();
  }

  private async structuredReply(): Promise<void> {
    const header = await this.bytes.take(16);
    const length = header.readUInt32BE(12);
    const payload = length > 0 ? await this.bytes.take(length) : Buffer.alloc(0);
    const request = this.requestOf(header.readBigUInt64BE(4));
    takeChunk(request, header.readUInt16BE(2), payload);
    if ((header.readUInt16BE(0) & nbd.REPLY_DONE) !== 0) request.done();
  }
}

function takeChunk(request: Request, type: number, payload: Buffer): void {
  if ((type & nbd.REPLY_ERROR) !== 0) {
    request.failure ??= new nbd.NbdError(request.what, payload.readUInt32BE(0));
    return;
  }
  switch (type) {
    case nbd.REPLY.data: {
      const at = Number(payload.readBigUInt64BE(0)) - request.offset;
      if (request.buffer) payload.copy(request.buffer, at, 8);
      break;
    }
    case nbd.REPLY.hole: {
      const at = Number(payload.readBigUInt64BE(0)) - request.offset;
      request.buffer?.fill(0, at, at + payload.readUInt32BE(8));
      break;
    }
    case nbd.REPLY.status:
      for (let at = 4; at < payload.length; at += 4) request.extents.push(payload.readUInt32BE(at));
      break;
    default:
      break;
  }
}
