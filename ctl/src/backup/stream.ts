// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  ReadBlocksHeader,
  ReadBlocksRequest,
  ReadBlocksResponse,
} from '../../../proto/gen/elio/v1/data.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { StreamDigests, type StreamDigest } from '../../../agent/src/services/stream-digests.js';
import { isSound, piecesIn } from '../../../agent/src/services/stream-pieces.js';
import type { Connection } from '../connection.js';
import { CliError, messageOf } from '../errors.js';
import { fromGrpc, isBrokenConnection } from '../grpc-errors.js';
import { checkInterrupt } from '../interrupt.js';
import { formatDuration } from '../output.js';
import { note } from '../progress.js';
import { lengthOf, type Blocks } from './blocks.js';
import type { Pacer } from './pacer.js';

/** A stream of an image's blocks: checked, ascending, and complete when it ends without an error. */
export interface BlockStream {
  header: ReadBlocksHeader;
  /** Bytes of data received so far; holes do not count. */
  sentBytes(): number;
  blocks: AsyncGenerator<Blocks>;
  /** Ends the call; an iteration that was begun does that itself. The agent does not let go of an image that is streamed. */
  close(): void;
}

function broken(what: string): CliError {
  return new CliError(`the stream from the agent is not whole: ${what}; run the command again`);
}

/** Compares the checksums that the agent sends with what came. */
class DigestCheck {
  private digests = new StreamDigests();
  /** Of chunks that are complete, and whose checksum has not come yet. */
  private readonly computed = new Map<number, Promise<Buffer>>();

  private keep(digests: readonly StreamDigest[]): void {
    for (const { index, sha256 } of digests) this.computed.set(index, sha256);
  }

  add(piece: Blocks): void {
    this.keep(this.digests.add(piece));
  }

  /** Rejects with CliError when it is not the checksum of the chunk. */
  async check(offset: number, sha256: Buffer): Promise<void> {
    const index = offset / CHUNK_SIZE;
    if (index === this.digests.index) this.keep(this.digests.finish());
    const computed = await this.computed.get(index);
    this.computed.delete(index);
    if (computed?.equals(sha256) !== true) {
      throw broken(`the MiB at byte ${String(offset)} has a wrong checksum`);
    }
  }

  /** Throws CliError when a checksum did not come. */
  finish(): void {
    this.keep(this.digests.finish());
    const [index] = this.computed.keys();
    if (index === undefined) return;
    throw broken(`the checksum of the MiB at byte ${String(index * CHUNK_SIZE)} did not come`);
  }

  beginAnew(): void {
    this.digests = new StreamDigests();
    this.computed.clear();
  }
}

type MessageContent = NonNullable<ReadBlocksResponse['content']>;
type Request = Partial<ReadBlocksRequest> & { minor: number };

/** What a message has of the image. Throws CliError. */
function piecesOf(content: MessageContent): Blocks[] {
  try {
    return [...piecesIn(content)];
  } catch (error) {
    throw broken(messageOf(error));
  }
}

/** The agent could not be reached for so long that the run ends; another one can go on if the snapshot still lives. */
export class BrokenTransferError extends CliError {}

/** One call of ReadBlocks. */
interface Call {
  header: ReadBlocksHeader;
  /** The next message's content. Rejects with CliError. */
  next(): Promise<MessageContent | 'end'>;
  close(): void;
}

/** So long a broken connection is waited for; the snapshot's lease is longer. */
const PATIENCE_MS = 300_000;
const RETRY_MS = 2000;

/** Rejects with CliError when the call is refused, or the connection breaks. */
async function openCall(
  connection: Connection,
  request: Request,
  signal: AbortSignal,
): Promise<Call> {
  const call = connection.data.readBlocks({
    cookie: undefined,
    since: undefined,
    startingOffsetBytes: 0n,
    allocatedOnly: false,
    ...request,
  });
  const cancel = (): void => {
    call.cancel();
  };
  signal.addEventListener('abort', cancel, { once: true });
  const messages = call[Symbol.asyncIterator]() as AsyncIterator<ReadBlocksResponse>;
  const next = async (): Promise<MessageContent | 'end'> => {
    try {
      const result = await messages.next();
      if (result.done === true) return 'end';
      if (result.value.content) return result.value.content;
    } catch (error) {
      checkInterrupt(signal);
      throw fromGrpc(error, connection.label);
    }
    throw broken('an empty message');
  };
  const close = (): void => {
    signal.removeEventListener('abort', cancel);
    call.cancel();
  };
  try {
    const first = await next();
    if (first === 'end' || first.$case !== 'header')
      throw broken('it does not begin with its header');
    return { header: first.value, next, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Opens the rest of a stream that has broken, as soon as the agent is there again. */
async function reopenCall(
  connection: Connection,
  request: Request,
  { cookie, volumeSizeBytes }: ReadBlocksHeader,
  cause: CliError,
  signal: AbortSignal,
): Promise<Call> {
  note(`${cause.message}: trying to go on, for ${formatDuration(PATIENCE_MS / 1000)}`);
  const endMs = Date.now() + PATIENCE_MS;
  for (;;) {
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
    checkInterrupt(signal);
    try {
      // The agent refuses another image than that of this cookie.
      const call = await openCall(connection, { ...request, cookie }, signal);
      if (call.header.volumeSizeBytes === volumeSizeBytes) return call;
      call.close();
      throw broken('the device has another size now');
    } catch (error) {
      if (!isBrokenConnection(error)) throw error;
      if (Date.now() > endMs) throw new BrokenTransferError(error.message, error.exitCode);
    }
  }
}

/**
 * Opens a stream of blocks, which goes on where it was when the connection or the agent ends, and is read no faster than the pacer
 * allows. The signal cancels it. Rejects with CliError, and so does its iteration.
 */
export async function openBlockStream(
  connection: Connection,
  request: Request,
  signal: AbortSignal,
  pacer?: Pacer,
): Promise<BlockStream> {
  let call = await openCall(connection, request, signal);
  const { header } = call;
  const totalBytes = Number(header.totalBytes);
  const startBytes = Number(request.startingOffsetBytes ?? 0n);
  const digests = new DigestCheck();
  let sentBytes = 0;

  /** The next message, of another call if this one breaks before it. */
  async function next(end: number): Promise<MessageContent | 'end'> {
    for (;;) {
      try {
        return await call.next();
      } catch (error) {
        if (!isBrokenConnection(error) || signal.aborted) throw error;
        call.close();
        const rest = end === 0 ? request : { ...request, startingOffsetBytes: BigInt(end) };
        call = await reopenCall(connection, rest, header, error, signal);
        // The checksums of the new call are of what it sends itself.
        digests.beginAnew();
      }
    }
  }

  async function* blocks(): AsyncGenerator<Blocks> {
    let coveredBytes = 0;
    let end = startBytes;
    try {
      for (;;) {
        const content = await next(end);
        if (content === 'end') break;
        if (content.$case === 'header') throw broken('two headers');
        if (content.$case === 'digests') {
          for (const { offsetBytes, sha256 } of content.value.digests) {
            await digests.check(Number(offsetBytes), sha256);
          }
          continue;
        }
        if (content.$case === 'skipped' && request.allocatedOnly !== true) {
          throw broken('blocks are left out that were asked for');
        }
        if (!isSound(content))
          throw broken(`data behind byte ${String(end)} have a wrong checksum`);
        for (const piece of piecesOf(content)) {
          const { offset } = piece;
          if (offset < end) throw broken(`blocks at byte ${String(offset)} come twice`);
          digests.add(piece);
          if (piece.kind === 'data') {
            sentBytes += piece.data.length;
            await pacer?.take(piece.data.length, signal);
          }
          end = offset + lengthOf(piece);
          coveredBytes += lengthOf(piece);
          yield piece;
        }
      }
      if (coveredBytes !== totalBytes || end > Number(header.volumeSizeBytes)) {
        throw broken(`${String(coveredBytes)} of ${String(totalBytes)} bytes came`);
      }
      digests.finish();
    } finally {
      call.close();
    }
  }
  const close = (): void => {
    call.close();
  };
  return { header, sentBytes: () => sentBytes, blocks: blocks(), close };
}
