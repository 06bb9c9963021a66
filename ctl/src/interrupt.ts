// SPDX-License-Identifier: Apache-2.0
import { CliError, EXIT } from './errors.js';

/** Runs a task whose signal SIGINT and SIGTERM abort; the second one ends the process at once. */
export async function interruptible<T>(task: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  const abort = (): void => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort();
  };
  for (const name of signals) process.on(name, abort);
  try {
    return await task(controller.signal);
  } finally {
    for (const name of signals) process.off(name, abort);
  }
}

/** Rejects when the user wants to stop. */
export function checkInterrupt(signal: AbortSignal): void {
  if (signal.aborted) throw new CliError('interrupted', EXIT.interrupted);
}
