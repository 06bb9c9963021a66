// SPDX-License-Identifier: Apache-2.0
// The one interceptor: who is it, may they, and what came of it.
import { ServerInterceptingCall, status, type ServerInterceptor } from '@grpc/grpc-js';
import { AgentError, toServiceError } from '../errors.js';
import type { Log } from '../log.js';
import type { RateLimit } from './rate-limit.js';
import { isMutating, LEAST_ROLE, mayCall, type Identity } from './roles.js';

/** Who is at the other end of a connection. */
export interface Peer {
  identity: Identity | undefined;
  /** Where it comes from, for the log. */
  peer: string;
  rate: RateLimit;
}

/** Told of each call that has ended. */
export type CallObserver = (method: string, code: string, durationMs: number) => void;

/** What a log line tells of a request: the fields that name its subject. */
const SUBJECT_FIELDS = [
  'requestId',
  'minor',
  'blockDevice',
  'cowFile',
  'targetDevice',
  'restoreId',
];

function subjectOf(message: unknown): Record<string, string> {
  const subject: Record<string, string> = {};
  if (typeof message !== 'object' || message === null) return subject;
  for (const [key, value] of Object.entries(message)) {
    if (SUBJECT_FIELDS.includes(key) && (typeof value === 'string' || typeof value === 'number')) {
      subject[key] = String(value);
    }
  }
  return subject;
}

function refusal({ identity, rate }: Peer, path: string): AgentError | undefined {
  if (!identity) {
    return new AgentError(
      status.UNAUTHENTICATED,
      'NO_ROLE',
      'the client has no role: its certificate needs one URI name spiffe://<domain>/elio/<viewer, operator or admin>/<name>',
    );
  }
  if (!mayCall(identity.role, path)) {
    return new AgentError(
      status.PERMISSION_DENIED,
      'ROLE_TOO_LOW',
      `${identity.name} has the role ${identity.role}, and ${path} needs ${LEAST_ROLE[path] ?? 'a role that nobody has'}: use other credentials`,
      { role: identity.role, method: path },
    );
  }
  if (rate.take()) return undefined;
  return new AgentError(
    status.RESOURCE_EXHAUSTED,
    'TOO_MANY_CALLS',
    `${identity.name} makes too many calls: wait a second, or raise limits.calls_per_second in the agent's configuration`,
  );
}

/**
 * Lets a call through when its identity may make it, and writes a log line for it; an audit line when
 * it changes something.
 */
export function guard(peer: Peer, log: Log, observer: CallObserver): ServerInterceptor {
  return (method, call) => {
    const { path } = method;
    const denied = refusal(peer, path);
    let subject: Record<string, string> = {};
    const startedMs = performance.now();
    const intercepting = new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, forward) => {
            if (!denied) {
              forward(metadata);
              return;
            }
            const error = toServiceError(denied);
            intercepting.sendStatus({
              code: error.code,
              details: error.details,
              metadata: error.metadata,
            });
          },
          onReceiveMessage: (message: unknown, forward) => {
            if (Object.keys(subject).length === 0) subject = subjectOf(message);
            forward(message);
          },
        });
      },
      sendStatus: (result, forward) => {
        const durationMs = Math.round(performance.now() - startedMs);
        const code = status[result.code];
        const fields = {
          method: path,
          identity: peer.identity?.name ?? '',
          role: peer.identity?.role ?? '',
          peer: peer.peer,
          ...subject,
          code,
          durationMs,
        };
        if (isMutating(path) || denied) log.info('audit', fields);
        else log.debug('call', fields);
        // A path that is not ours is the caller's text: no label of its own.
        observer(LEAST_ROLE[path] === undefined ? 'unknown' : path, code, durationMs);
        forward(result);
      },
    });
    return intercepting;
  };
}
