// SPDX-License-Identifier: Apache-2.0
// One question to several hosts.
import type { Command } from 'commander';
import { globalOptions, openConnections, type Connection } from './connection.js';
import { CliError, EXIT, messageOf } from './errors.js';

/** What a host said, or why it did not. */
export interface HostAnswer<T> {
  host: string;
  answer?: T;
  failure?: Error;
}

/** Asks the hosts of a command line all at once; never rejects because of one of them. */
export async function askHosts<T>(
  command: Command,
  ask: (connection: Connection) => Promise<T>,
): Promise<HostAnswer<T>[]> {
  const connections = openConnections(globalOptions(command));
  const results = await Promise.allSettled(connections.map(ask));
  for (const connection of connections) connection.close();
  return results.map((result, i) => {
    const host = connections[i]?.label ?? '';
    return result.status === 'fulfilled'
      ? { host, answer: result.value }
      : { host, failure: asError(result.reason) };
  });
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}

/** Throws what hosts did not answer: exit status 3 when others did. */
export function throwFailures(answers: readonly HostAnswer<unknown>[]): void {
  const failures = answers.flatMap(({ failure }) => (failure === undefined ? [] : [failure]));
  if (failures.length === 0) return;
  if (answers.length === 1 && failures[0]) throw failures[0];
  const code = failures.length < answers.length ? EXIT.partial : EXIT.failed;
  throw new CliError(failures.map(messageOf).join('; '), code);
}
