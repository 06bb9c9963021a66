// SPDX-License-Identifier: Apache-2.0
// What a failed call means for a person and for a script.
import { status, type ServiceError } from '@grpc/grpc-js';
import { ErrorInfo } from '../../proto/gen/google/rpc/error_details.js';
import { Status } from '../../proto/gen/google/rpc/status.js';
import { CliError, EXIT, messageOf, UnreachableError, type ExitCode } from './errors.js';

const EXIT_OF_STATUS: Partial<Record<status, ExitCode>> = {
  [status.CANCELLED]: EXIT.interrupted,
  [status.INVALID_ARGUMENT]: EXIT.usage,
  [status.OUT_OF_RANGE]: EXIT.usage,
  [status.DEADLINE_EXCEEDED]: EXIT.timeout,
  [status.NOT_FOUND]: EXIT.notFound,
  [status.ALREADY_EXISTS]: EXIT.state,
  [status.PERMISSION_DENIED]: EXIT.unreachable,
  [status.UNAUTHENTICATED]: EXIT.unreachable,
  [status.UNAVAILABLE]: EXIT.unreachable,
  [status.FAILED_PRECONDITION]: EXIT.state,
  [status.UNIMPLEMENTED]: EXIT.state,
  [status.ABORTED]: EXIT.busy,
};

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'metadata' in error && 'details' in error;
}

/** The reason in the rich error details; empty when there are none. */
function reasonOf(error: ServiceError): string {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  if (!Buffer.isBuffer(bytes)) return '';
  for (const detail of Status.decode(bytes).details) {
    if (detail.typeUrl.endsWith('/google.rpc.ErrorInfo'))
      return ErrorInfo.decode(detail.value).reason;
  }
  return '';
}

/** What messages call the agent behind the local socket. */
export const LOCAL_LABEL = 'this host';

/** What is said of an agent that is silent. */
export function noAnswer(label: string): string {
  return `${label} did not answer in time: try again, or look at its log`;
}

/** Without a reason it was not the agent that answered: it is the connection. */
function connectionMessage(error: ServiceError, label: string): string {
  const { details } = error;
  if (error.code === status.DEADLINE_EXCEEDED) return noAnswer(label);
  // Nobody may be there behind a proxy or a forwarded port that takes the connection and drops it.
  const dropped = /disconnected before secure TLS/i.test(details);
  if (!dropped && /alert|SSL|TLS|handshake|certificate/i.test(details)) {
    return `${label} and this client do not trust each other (${details}): check --ca, --cert and --key`;
  }
  if (error.code === status.UNAVAILABLE && label === LOCAL_LABEL) {
    return `cannot reach the agent on ${label} (${details}): is eliod running (systemctl status eliod)? Without it, \`elio-rescue\` lists, destroys and reloads snapshots`;
  }
  if (error.code === status.UNAVAILABLE) {
    return `cannot reach the agent on ${label} (${details}): is eliod running, and are --ca, --cert and --key those that it trusts?`;
  }
  return `${label}: ${details}`;
}

/** Was there no conversation? A call that waited too long names the other end once it was sent there. */
function isUnreachable({ code, details }: ServiceError): boolean {
  if (code === status.DEADLINE_EXCEEDED) return !details.includes('remote_addr=');
  return code === status.UNAVAILABLE;
}

/** Has the connection ended, or the agent, and not the agent the call? What it refuses has a reason. */
export function isBrokenConnection(error: unknown): error is CliError {
  const codes: readonly ExitCode[] = [EXIT.unreachable, EXIT.interrupted];
  return error instanceof CliError && error.reason === '' && codes.includes(error.exitCode);
}

/** Any failure of a call to the agent at `label`, for a person. */
export function fromGrpc(error: unknown, label: string): CliError {
  if (error instanceof CliError) return error;
  if (!isServiceError(error)) {
    return new CliError(messageOf(error));
  }
  const reason = reasonOf(error);
  const exitCode = EXIT_OF_STATUS[error.code] ?? EXIT.failed;
  if (reason !== '') return new CliError(`${label}: ${error.details}`, exitCode, reason);
  const message = connectionMessage(error, label);
  return isUnreachable(error) ? new UnreachableError(message) : new CliError(message, exitCode);
}
