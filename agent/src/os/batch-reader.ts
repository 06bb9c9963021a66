// SPDX-License-Identifier: Apache-2.0
// Many small reads of a device by one call of the kernel's asynchronous I/O (io_submit(2)), through koffi: the device gets all of them
// at once, and each costs no thread.
import type { FileHandle } from 'node:fs/promises';
import { endianness } from 'node:os';
import koffi from 'koffi';
import { readDevice } from './direct-io.js';
import { SystemError } from './ioctl.js';

export interface Read {
  /** Where in the file. */
  position: number;
  /** Aligned, as direct I/O wants it; it is filled. */
  data: Buffer;
}

interface Calls {
  setup: number;
  destroy: number;
  getEvents: number;
  submit: number;
}

/** The numbers of io_setup(2) and so on, for each processor. */
const CALLS: Readonly<Record<string, Calls>> = {
  x64: { setup: 206, destroy: 207, getEvents: 208, submit: 209 },
  arm64: { setup: 0, destroy: 1, getEvents: 4, submit: 2 },
};
const calls = CALLS[process.arch];

/** Reads of a context that are under way. */
const MOST_READS = 128;
/** struct iocb: data, key and flags, opcode, priority, file, address, length, offset, and three more. */
const IOCB = { size: 64, data: 0, opcode: 16, file: 20, address: 24, length: 32, offset: 40 };
const IOCB_CMD_PREAD = 0;
/** struct io_event: data, iocb, result, and one more. */
const EVENT = { size: 32, data: 0, result: 16 };
const POINTER_SIZE = 8;

// Declared without "...": on the platforms that the driver runs on the call is the same.
const libc = koffi.load('libc.so.6');
const setup = libc.func('syscall', 'long', ['long', 'unsigned int', '_Inout_ uint64_t *']);
const destroy = libc.func('syscall', 'long', ['long', 'uint64_t']);
const submit = libc.func('syscall', 'long', ['long', 'uint64_t', 'long', 'void *']);
const getEvents = libc.func('syscall', 'long', [
  'long',
  'uint64_t',
  'long',
  'long',
  '_Out_ uint8_t *',
  'void *',
]);

type Call = typeof submit;

/** Runs a call on a thread of the pool. Resolves with its result; rejects with SystemError. */
function inThread(name: string, call: Call, ...args: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(...args, (error: Error | null, result: number | bigint) => {
      // The errno of this call is only there inside the callback.
      const errno = koffi.errno();
      if (error) reject(error);
      else if (result < 0) reject(new SystemError(name, errno));
      else resolve(Number(result));
    });
  });
}

/** What the kernel is told of reads of a file. */
function controlBlocks(fd: number, reads: readonly Read[]): Buffer {
  const blocks = Buffer.alloc(reads.length * IOCB.size);
  for (const [i, { data, position }] of reads.entries()) {
    const block = blocks.subarray(i * IOCB.size, (i + 1) * IOCB.size);
    block.writeBigUInt64LE(BigInt(i), IOCB.data);
    block.writeUInt16LE(IOCB_CMD_PREAD, IOCB.opcode);
    block.writeUInt32LE(fd, IOCB.file);
    block.writeBigUInt64LE(koffi.address(data), IOCB.address);
    block.writeBigUInt64LE(BigInt(data.length), IOCB.length);
    block.writeBigUInt64LE(BigInt(position), IOCB.offset);
  }
  return blocks;
}

/** Reads that are given to the kernel together. The owner closes it. */
export class BatchReader {
  /** Calls take turns: an event does not say whose read has ended. */
  private turn: Promise<unknown> = Promise.resolve();

  /** What the kernel knows by its address only: it has to outlast the calls. */
  private readonly held = new Set<unknown>();

  /** The kernel's, when it was needed; 0: it gives none, and each read is a call of its own. */
  private context: bigint | undefined;

  constructor(private readonly file: FileHandle) {}

  private setUp(): bigint {
    if (!calls || endianness() !== 'LE') return 0n;
    const context: (number | bigint)[] = [0n];
    // There is a limit for the whole machine, fs.aio-max-nr.
    return setup(calls.setup, MOST_READS, context) === 0 ? BigInt(context[0] ?? 0) : 0n;
  }

  /** Fills the buffers of all reads. Rejects with SystemError, or when the file ends within one. */
  async read(reads: readonly Read[]): Promise<void> {
    if (reads.length > 1) this.context ??= this.setUp();
    const { context } = this;
    if (!calls || !context || reads.length === 1) {
      await this.readEach(reads);
      return;
    }
    const turn = this.turn.then(async () => {
      for (let at = 0; at < reads.length; at += MOST_READS) {
        await this.readTogether(calls, context, reads.slice(at, at + MOST_READS));
      }
    });
    this.turn = turn.catch(() => undefined);
    await turn;
  }

  private async readEach(reads: readonly Read[]): Promise<void> {
    await Promise.all(reads.map(({ data, position }) => readDevice(this.file, data, position)));
  }

  /** Whatever happens, this comes back when the kernel has ended all of its reads: it writes where `reads` want it. */
  private async readTogether(calls: Calls, context: bigint, reads: readonly Read[]): Promise<void> {
    const blocks = controlBlocks(this.file.fd, reads);
    const pointers = Buffer.alloc(reads.length * POINTER_SIZE);
    const start = koffi.address(blocks);
    for (let i = 0; i < reads.length; i += 1) {
      pointers.writeBigUInt64LE(start + BigInt(i * IOCB.size), i * POINTER_SIZE);
    }
    const events = Buffer.alloc(reads.length * EVENT.size);
    const memory = [reads, blocks, pointers, events];
    this.held.add(memory);
    const submitted = await this.submit(calls, context, pointers);
    await this.waitFor(calls, context, submitted, events);
    this.held.delete(memory);
    for (let at = 0; at < submitted * EVENT.size; at += EVENT.size) {
      const read = reads[Number(events.readBigUInt64LE(at + EVENT.data))];
      const result = Number(events.readBigInt64LE(at + EVENT.result));
      if (result < 0) throw new SystemError('read', -result);
      // The rest of a short read says why it is short.
      if (read && result < read.data.length) {
        await readDevice(this.file, read.data.subarray(result), read.position + result);
      }
    }
    // What it did not take is read otherwise; if that fails, too, the error is known.
    await this.readEach(reads.slice(submitted));
  }

  /** Resolves with how many reads the kernel took, the first ones. */
  private async submit(calls: Calls, context: bigint, pointers: Buffer): Promise<number> {
    const count = pointers.length / POINTER_SIZE;
    let submitted = 0;
    for (let taken = 1; taken > 0 && submitted < count; submitted += taken) {
      const rest = pointers.subarray(submitted * POINTER_SIZE);
      const left = count - submitted;
      taken = await inThread('io_submit', submit, calls.submit, context, left, rest).catch(() => 0);
    }
    return submitted;
  }

  /** Resolves when so many reads have ended, with their events in the buffer. */
  private async waitFor(
    calls: Calls,
    context: bigint,
    count: number,
    events: Buffer,
  ): Promise<void> {
    for (let ended = 0; ended < count;) {
      const left = count - ended;
      const rest = events.subarray(ended * EVENT.size);
      const args = [calls.getEvents, context, left, left, rest, null];
      try {
        ended += await inThread('io_getevents', getEvents, ...args);
      } catch (error) {
        // A signal ends the wait, not the reads.
        if (!(error instanceof SystemError && error.code === 'EINTR')) throw error;
      }
    }
  }

  /** Resolves when no read is under way any more, and nothing is left of it. The file stays open. */
  async close(): Promise<void> {
    await this.turn;
    if (calls && this.context) await inThread('io_destroy', destroy, calls.destroy, this.context);
  }
}
