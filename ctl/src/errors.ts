// SPDX-License-Identifier: Apache-2.0
/** What elioctl exits with; documented in the manual. */
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

/** An error's text on one line, for a person. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s*\n\s*/g, '; ');
}
