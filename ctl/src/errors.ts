// SPDX-License-Identifier: Apache-2.0
/** What elioctl exits with. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  partial: 3,
  notFound: 4,
  state: 5,
  unreachable: 6,
  busy: 7,
  timeout: 8,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What each exit code means, for help and manual. */
export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'ok',
  failed: 'failed',
  usage: 'usage: an argument cannot be right',
  partial: 'failed on some of several hosts or devices',
  notFound: 'not found',
  state: 'the state does not allow it',
  unreachable: 'agent not reachable, or not allowed',
  busy: 'busy',
  timeout: 'time-out',
  interrupted: 'interrupted',
};

/** An expected failure: one line for a person, and the exit code of its class. */
export class CliError extends Error {
  constructor(
    message: string,
    readonly exitCode: ExitCode = EXIT.failed,
    /** The agent's reason, such as CHANGES_UNKNOWN; empty when it is not the agent's. */
    readonly reason = '',
  ) {
    super(message);
    this.name = 'CliError';
  }
}

/** There was no conversation with the agent. */
export class UnreachableError extends CliError {
  constructor(message: string) {
    super(message, EXIT.unreachable);
  }
}

/** Several hosts failed: a line for each of them, and one for all. */
export class HostsError extends CliError {
  constructor(
    readonly lines: readonly string[],
    message: string,
    exitCode: ExitCode,
  ) {
    super(message, exitCode);
  }
}

/** An error's text on one line, for a person. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s*\n\s*/g, '; ');
}

/** A refusal of the operating system, which names call and file itself. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    'syscall' in error &&
    error.syscall !== undefined
  );
}
