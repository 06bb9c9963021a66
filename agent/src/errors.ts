// SPDX-License-Identifier: Apache-2.0
import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { ErrorInfo } from '../../proto/gen/google/rpc/error_details.js';
import { Status } from '../../proto/gen/google/rpc/status.js';

/** Whose reasons ErrorInfo carries. */
export const ERROR_DOMAIN = 'elio';
const DETAILS_KEY = 'grpc-status-details-bin';
const ERROR_INFO_URL = 'type.googleapis.com/google.rpc.ErrorInfo';
/** Characters of one text in a status: longer ones (a path) would not fit in trailers, which many limit to 8 KiB. */
const MAX_TEXT = 300;

const clip = (text: string): string =>
  text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT - 1)}…`;

/**
 * An error that a caller can act on. `reason` is for programs, the message says what failed, why and
 * what to do, and `metadata` names device, minor, ioctl and errno.
 */
export class AgentError extends Error {
  constructor(
    readonly code: status,
    readonly reason: string,
    message: string,
    readonly metadata: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = 'AgentError';
  }
}

export function isErrnoException(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && typeof error.code === 'string';
}

/** Any failure as an AgentError; what nobody foresaw becomes INTERNAL. */
export function toAgentError(error: unknown): AgentError {
  if (error instanceof AgentError) return error;
  if (error instanceof Error && error.name === 'AbortError') {
    return new AgentError(status.CANCELLED, 'CANCELLED', 'the call was cancelled');
  }
  const message = error instanceof Error ? error.message : String(error);
  return new AgentError(status.INTERNAL, 'INTERNAL', `unexpected failure in the agent: ${message}`);
}

/** What grpc-js sends: code, message, and google.rpc.Status with one ErrorInfo. */
export function toServiceError(error: unknown): ServiceError {
  const e = toAgentError(error);
  const message = clip(e.message);
  const metadata = new Metadata();
  const info = ErrorInfo.encode({
    reason: e.reason,
    domain: ERROR_DOMAIN,
    metadata: Object.fromEntries(Object.entries(e.metadata).map(([k, v]) => [k, clip(v)])),
  });
  const details = Status.encode({
    code: e.code,
    message,
    details: [{ typeUrl: ERROR_INFO_URL, value: Buffer.from(info.finish()) }],
  });
  metadata.set(DETAILS_KEY, Buffer.from(details.finish()));
  return Object.assign(new Error(message), {
    code: e.code,
    details: message,
    metadata,
  });
}
