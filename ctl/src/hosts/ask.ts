// SPDX-License-Identifier: Apache-2.0
// One question to several hosts, a bounded number of them at a time.
import { Semaphore } from '../../../agent/src/os/semaphore.js';
import type { Connection, Host } from '../connection.js';
import { CliError, EXIT } from '../errors.js';

/** What a host said, or why it did not. */
export interface HostAnswer<T> {
  host: string;
  answer?: T;
  failure?: Error;
}

export interface AskOptions {
  /** Hosts at a time. */
  parallel: number;
  /** Once it is aborted no further host is asked; those that are being asked still answer. */
  signal?: AbortSignal;
  /** Called after each answer. */
  onAnswer?: () => void;
}

/** Asks all hosts, in their order; never rejects because of one of them. */
export async function askAll<H extends { label: string }, T>(
  hosts: readonly H[],
  ask: (host: H) => Promise<T>,
  options: AskOptions,
): Promise<HostAnswer<T>[]> {
  const slots = new Semaphore(options.parallel);
  const askOne = async (host: H): Promise<HostAnswer<T>> => {
    try {
      if (options.signal?.aborted === true) {
        throw new CliError(`${host.label}: interrupted before it was asked`, EXIT.interrupted);
      }
      return { host: host.label, answer: await ask(host) };
    } catch (error) {
      return {
        host: host.label,
        failure: error instanceof Error ? error : new Error(String(error)),
      };
    } finally {
      options.onAnswer?.();
    }
  };
  return Promise.all(hosts.map((host) => slots.run(() => askOne(host))));
}

/** The same with a connection to each host, for the time of the question. */
export async function askHosts<T>(
  hosts: readonly Host[],
  ask: (connection: Connection) => Promise<T>,
  options: AskOptions,
): Promise<HostAnswer<T>[]> {
  const askOne = async (host: Host): Promise<T> => {
    const connection = host.connect();
    try {
      return await ask(connection);
    } finally {
      connection.close();
    }
  };
  return askAll(hosts, askOne, options);
}
