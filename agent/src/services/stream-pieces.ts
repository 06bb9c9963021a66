// SPDX-License-Identifier: Apache-2.0
// The pieces of an image in the messages of a stream. Many small runs of data share a message: for each a message of its own would
// cost more than its content.
import { crc32 } from 'node:zlib';
import type { ReadBlocksResponse } from '../../../proto/gen/elio/v1/data.js';

export interface DataPiece {
  offset: number;
  data: Buffer;
}

export type StreamPiece =
  ({ kind: 'data' } & DataPiece) | { kind: 'hole' | 'skipped'; offset: number; length: number };

/** The message of runs of data; `data` is the content of all, one after the other. */
export function scatteredMessage(
  pieces: readonly DataPiece[],
  data: Buffer = Buffer.concat(pieces.map((piece) => piece.data)),
): ReadBlocksResponse {
  const extents = pieces.map((piece) => ({
    offsetBytes: BigInt(piece.offset),
    lengthBytes: BigInt(piece.data.length),
  }));
  return { content: { $case: 'scattered', value: { extents, data, crc32: crc32(data) } } };
}

/** What a message has of the image, ascending; throws when lengths do not add up to the data's. */
export function* piecesIn(content: ReadBlocksResponse['content']): Generator<StreamPiece> {
  switch (content?.$case) {
    case 'data': {
      const { offsetBytes, data } = content.value;
      yield { kind: 'data', offset: Number(offsetBytes), data };
      break;
    }
    case 'scattered': {
      const { extents, data } = content.value;
      let at = 0;
      for (const { offsetBytes, lengthBytes } of extents) {
        const end = at + Number(lengthBytes);
        yield { kind: 'data', offset: Number(offsetBytes), data: data.subarray(at, end) };
        at = end;
      }
      if (at !== data.length) throw new Error('runs of another length than that of their data');
      break;
    }
    case 'hole':
    case 'skipped': {
      const { offsetBytes, lengthBytes } = content.value;
      yield { kind: content.$case, offset: Number(offsetBytes), length: Number(lengthBytes) };
      break;
    }
  }
}

/** Has a message the data for which it has a checksum? */
export function isSound(content: ReadBlocksResponse['content']): boolean {
  if (content?.$case !== 'data' && content?.$case !== 'scattered') return true;
  return crc32(content.value.data) === content.value.crc32;
}
