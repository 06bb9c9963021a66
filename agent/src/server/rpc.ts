// SPDX-License-Identifier: Apache-2.0
// Handlers as promises and generators. This is the one place where errors become gRPC statuses.
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  Metadata,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
} from '@grpc/grpc-js';
import { toServiceError } from '../errors.js';

/** A handler's answer; what it throws before it has a promise is a rejection, too. */
async function answerOf<A>(handler: () => Promise<A>): Promise<A> {
  return await handler();
}

/** The signal is aborted when the caller does not wait any more. */
export function unary<Q, A>(
  handler: (request: Q, signal: AbortSignal) => Promise<A>,
): handleUnaryCall<Q, A> {
  return (call, callback) => {
    const abort = new AbortController();
    call.once('cancelled', () => {
      abort.abort();
    });
    answerOf(() => handler(call.request, abort.signal)).then(
      (answer) => {
        callback(null, answer);
      },
      (error: unknown) => {
        callback(toServiceError(error));
      },
    );
  };
}

/**
 * Sends what the generator yields, as fast as the client takes it. A client that goes away aborts
 * the signal, and the generator's `finally` runs.
 *
 * The pipeline neither ends the call nor sees the generator's error: either would end the call
 * without a proper status.
 */
export function serverStream<Q, A>(
  handler: (request: Q, signal: AbortSignal, peer: string) => AsyncIterable<A>,
): handleServerStreamingCall<Q, A> {
  return (call) => {
    const abort = new AbortController();
    let failure: unknown;
    call.once('cancelled', () => {
      abort.abort();
    });
    async function* messages(): AsyncGenerator<A> {
      try {
        yield* handler(call.request, abort.signal, call.getPeer());
      } catch (error) {
        failure = error;
      }
    }
    // The first message may be long in coming: the client is told that the agent has heard it.
    call.sendMetadata(new Metadata());
    const source = Readable.from(messages(), { highWaterMark: 2 });
    const sink: Writable = call;
    pipeline(source, sink, { signal: abort.signal, end: false }).then(
      () => {
        if (failure === undefined) call.end();
        else call.emit('error', toServiceError(failure));
      },
      (error: unknown) => {
        if (!abort.signal.aborted) call.emit('error', toServiceError(error));
      },
    );
  };
}

export function clientStream<Q, A>(
  handler: (requests: AsyncIterable<Q>) => Promise<A>,
): handleClientStreamingCall<Q, A> {
  return (call, callback) => {
    answerOf(() => handler(call as AsyncIterable<Q>)).then(
      (answer) => {
        callback(null, answer);
      },
      (error: unknown) => {
        callback(toServiceError(error));
      },
    );
  };
}
