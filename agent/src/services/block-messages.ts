// SPDX-License-Identifier: Apache-2.0
// ReadBlocks' messages as bytes, with as little garbage as can be: the generated code copies a message's data three times. Left to
// itself V8 lets dead buffers pile up until it marks its whole heap, for every 4 MiB or so of a stream, which took half of the
// processor time that a stream takes. What was sent dies young, and a collection of young objects frees it.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  DataBlocks,
  DataServiceService,
  ReadBlocksResponse,
  ScatteredBlocks,
} from '../../../proto/gen/elio/v1/data.js';
import { collectYoung } from '../os/young-garbage.js';

/** Bytes of messages between two collections. */
const COLLECT_EVERY = 2 << 20;

const NO_DATA = Buffer.alloc(0);

/** As data.proto numbers them. */
const FIELDS = { data: 2, scattered: 6, dataOfBlocks: 2 };

const listeners = new WeakMap<ReadBlocksResponse, () => void>();

/** Calls `done` when the bytes of a message have been made: its data may be overwritten from then on. */
export function whenSerialized(message: ReadBlocksResponse, done: () => void): void {
  listeners.set(message, done);
}

function tag(field: number): number {
  return (field << 3) | WireType.LengthDelimited;
}

/** The order of a message's fields is free: its data come last. */
function bytesOf(message: ReadBlocksResponse): Uint8Array {
  const { content } = message;
  if (content?.$case !== 'data' && content?.$case !== 'scattered') {
    return ReadBlocksResponse.encode(message).finish();
  }
  const { data } = content.value;
  const rest =
    content.$case === 'data'
      ? DataBlocks.encode({ ...content.value, data: NO_DATA }).finish()
      : ScatteredBlocks.encode({ ...content.value, data: NO_DATA }).finish();
  const before = new BinaryWriter().uint32(tag(FIELDS.dataOfBlocks)).uint32(data.length).finish();
  return new BinaryWriter()
    .uint32(tag(FIELDS[content.$case]))
    .uint32(rest.length + before.length + data.length)
    .raw(rest)
    .raw(before)
    .raw(data)
    .finish();
}

let sinceCollection = 0;

function serialize(message: ReadBlocksResponse): Buffer {
  const { buffer, byteOffset, byteLength } = bytesOf(message);
  listeners.get(message)?.();
  sinceCollection += byteLength;
  if (sinceCollection > COLLECT_EVERY) {
    collectYoung();
    sinceCollection = 0;
  }
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** DataServiceService, whose messages are made here. */
export const dataService = {
  ...DataServiceService,
  readBlocks: { ...DataServiceService.readBlocks, responseSerialize: serialize },
};
