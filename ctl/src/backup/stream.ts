// SPDX-License-Identifier: Apache-2.0
import { crc32 } from 'node:zlib';
import type {
  ReadBlocksHeader,
  ReadBlocksRequest,
  ReadBlocksResponse,
} from '../../../proto/gen/elio/v1/data.js';
import type { Connection } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { fromGrpc } from '../grpc-errors.js';
import { lengthOf, type Blocks } from './blocks.js';

/** A stream of an image's blocks: checked, ascending, and complete when it ends without an error. */
export interface BlockStream {
  header: ReadBlocksHeader;
  /** Bytes of data received so far; holes do not count. */
  sentBytes(): number;
  blocks: AsyncGenerator<Blocks>;
}

function broken(what: string): CliError {
  return new CliError(`the stream from the agent is not whole: ${what}; run the command again`);
}

/** Opens a stream of blocks. The signal cancels it. Rejects with CliError, and so does its iteration. */
export async function openBlockStream(
  connection: Connection,
  request: Partial<ReadBlocksRequest> & { minor: number },
  signal: AbortSignal,
): Promise<BlockStream> {
  const call = connection.data.readBlocks({
    cookie: undefined,
    since: undefined,
    startingOffsetBytes: 0n,
    ...request,
  });
  const cancel = (): void => {
    call.cancel();
  };
  signal.addEventListener('abort', cancel, { once: true });
  const messages = call[Symbol.asyncIterator]() as AsyncIterator<ReadBlocksResponse>;
  const next = async (): Promise<ReadBlocksResponse['content'] | 'end'> => {
    try {
      const result = await messages.next();
      return result.done === true ? 'end' : result.value.content;
    } catch (error) {
      if (signal.aborted) throw new CliError('interrupted', EXIT.interrupted);
      throw fromGrpc(error, connection.label);
    }
  };
  const first = await next();
  if (first === 'end' || first?.$case !== 'header')
    throw broken('it does not begin with its header');
  const header = first.value;
  const totalBytes = Number(header.totalBytes);
  let sentBytes = 0;

  async function* blocks(): AsyncGenerator<Blocks> {
    let coveredBytes = 0;
    let end = 0;
    try {
      for (;;) {
        const content = await next();
        if (content === 'end') break;
        if (content === undefined || content.$case === 'header') throw broken('an empty message');
        const offset = Number(content.value.offsetBytes);
        const piece: Blocks =
          content.$case === 'data'
            ? { kind: 'data', offset, data: content.value.data }
            : { kind: 'hole', offset, length: Number(content.value.lengthBytes) };
        if (offset < end) throw broken(`blocks at byte ${String(offset)} come twice`);
        if (content.$case === 'data') {
          if (crc32(content.value.data) !== content.value.crc32) {
            throw broken(`the data at byte ${String(offset)} have a wrong checksum`);
          }
          sentBytes += content.value.data.length;
        }
        end = offset + lengthOf(piece);
        coveredBytes += lengthOf(piece);
        yield piece;
      }
      if (coveredBytes !== totalBytes || end > Number(header.volumeSizeBytes)) {
        throw broken(`${String(coveredBytes)} of ${String(totalBytes)} bytes came`);
      }
    } finally {
      signal.removeEventListener('abort', cancel);
      call.cancel();
    }
  }
  return { header, sentBytes: () => sentBytes, blocks: blocks() };
}
