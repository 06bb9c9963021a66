// SPDX-License-Identifier: Apache-2.0
// Work on the devices of a fleet: some hosts at a time, on each one device after the other.
import type { Connection, Host } from '../connection.js';
import { CliError, UnreachableError } from '../errors.js';
import { askAll, type AskOptions } from '../hosts/ask.js';
import { checkInterrupt } from '../interrupt.js';
import type { Candidate } from './candidates.js';

/** What came of a device. */
export interface Outcome<T> {
  host: string;
  /** Null: the host did not tell which devices it has. */
  device: string | null;
  answer?: T;
  failure?: Error;
  seconds: number;
}

/** Names host and device in a message that does not yet. */
function named(failure: Error, { host, device }: Candidate): Error {
  if (!(failure instanceof CliError) || failure instanceof UnreachableError) return failure;
  const { label } = host;
  const prefix = `${label}: `;
  const text = failure.message.startsWith(prefix)
    ? failure.message.slice(prefix.length)
    : failure.message;
  const place = device === null || text.includes(device) ? label : `${label}: ${device}`;
  return new CliError(`${place}: ${text}`, failure.exitCode, failure.reason);
}

/** What is done with the devices of one host, over one connection. */
export interface HostWork<T> {
  /** Rejects with an error that concerns this device only. */
  on(device: string): Promise<T>;
}

export interface CarryOutOptions extends AskOptions {
  signal: AbortSignal;
}

/** Does the work on each candidate that nothing keeps from it; never rejects because of one of them. */
export async function carryOut<T>(
  candidates: readonly Candidate[],
  begin: (connection: Connection, host: Host) => HostWork<T>,
  { parallel, signal, onAnswer }: CarryOutOptions,
): Promise<Outcome<T>[]> {
  const outcomes = new Map<Candidate, Pick<Outcome<T>, 'answer' | 'failure' | 'seconds'>>();
  const hosts = [...new Set(candidates.filter((one) => !one.failure).map(({ host }) => host))];

  async function workOn(candidate: Candidate, work: HostWork<T>): Promise<void> {
    const startedMs = performance.now();
    const seconds = (): number => Math.round(performance.now() - startedMs) / 1000;
    try {
      checkInterrupt(signal);
      const answer = await work.on(candidate.device ?? '');
      outcomes.set(candidate, { answer, seconds: seconds() });
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      outcomes.set(candidate, { failure, seconds: seconds() });
    }
    onAnswer?.();
  }

  const workOnHost = async (host: Host): Promise<void> => {
    const connection = host.connect();
    try {
      const work = begin(connection, host);
      const mine = candidates.filter((one) => one.host === host && !one.failure);
      for (const candidate of mine) await workOn(candidate, work);
    } finally {
      connection.close();
    }
  };
  const hostAnswers = await askAll(hosts, workOnHost, { parallel, signal });
  return candidates.map((candidate) => {
    const { host, device } = candidate;
    const done = outcomes.get(candidate);
    // An interrupt has kept the host from being asked at all.
    const hostFailure = hostAnswers[hosts.indexOf(host)]?.failure;
    const failure = candidate.failure ?? done?.failure ?? (done ? undefined : hostFailure);
    return {
      host: host.label,
      device,
      seconds: done?.seconds ?? 0,
      ...(done?.answer !== undefined && { answer: done.answer }),
      ...(failure && { failure: named(failure, candidate) }),
    };
  });
}
