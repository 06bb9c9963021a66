// SPDX-License-Identifier: Apache-2.0
// The agent's API, called as a controller calls it.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  Client,
  credentials,
  Metadata,
  status,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { ErrorInfo } from '../../proto/gen/google/rpc/error_details.js';
import { Status } from '../../proto/gen/google/rpc/status.js';
import type { ClientTls, FleetHost } from './fleet.js';

const DEADLINE_MS = 120_000;

/** A method as the generated code describes it. */
export type Method<Q, A> = MethodDefinition<Q, A>;

export type Role = 'viewer' | 'operator' | 'admin';

/** A failed call: its status, and the reason and message that the agent gave. */
export class ApiError extends Error {
  readonly code: status;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(error: ServiceError) {
    super(`${status[error.code]}: ${error.details}`);
    this.name = 'ApiError';
    this.code = error.code;
    const [bytes] = error.metadata.get('grpc-status-details-bin');
    const [detail] = Buffer.isBuffer(bytes) ? Status.decode(bytes).details : [];
    const info = detail && ErrorInfo.decode(detail.value);
    this.reason = info?.reason ?? '';
    this.metadata = info?.metadata ?? {};
  }
}

/** A client of one agent, with the certificate of a role; `windowBytes`: what the agent may send before that is read, instead of 64 KiB. */
export class Api {
  readonly client: Client;

  constructor(host: FleetHost, tls: ClientTls, role: Role = 'admin', windowBytes?: number) {
    const read = (name: string): Buffer => readFileSync(join(dirname(tls.cert), name));
    const channel = credentials.createSsl(
      readFileSync(tls.ca),
      read(`${role}.key`),
      read(`${role}.crt`),
    );
    this.client = new Client(host.address, channel, {
      'grpc.ssl_target_name_override': host.name,
      // Clients of one process do not share a connection: each has an identity of its own.
      'grpc.use_local_subchannel_pool': 1,
      ...(windowBytes === undefined ? {} : { 'grpc-node.flow_control_window': windowBytes }),
    });
  }

  /** One call; rejects with ApiError. */
  call<Q, A>(method: MethodDefinition<Q, A>, request: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const options = { deadline: Date.now() + DEADLINE_MS };
      this.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new Metadata(),
        options,
        (error, answer) => {
          if (error) reject(new ApiError(error));
          else resolve(answer as A);
        },
      );
    });
  }

  /** A stream of answers; `cancel` gives it up. Its failure is an ApiError. */
  stream<Q, A>(
    method: MethodDefinition<Q, A>,
    request: Q,
  ): { messages: AsyncGenerator<A>; cancel: () => void } {
    const { path, requestSerialize, responseDeserialize } = method;
    const stream = this.client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
    );
    async function* messages(): AsyncGenerator<A> {
      try {
        for await (const message of stream) yield message as A;
      } catch (error) {
        throw new ApiError(error as ServiceError);
      }
    }
    return {
      messages: messages(),
      cancel: () => {
        stream.cancel();
      },
    };
  }

  close(): void {
    this.client.close();
  }
}
