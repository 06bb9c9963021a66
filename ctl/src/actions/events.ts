// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { WatchEventsResponse } from '../../../proto/gen/elio/v1/event.js';
import { globalOptions, hostsOf, type Connection, type Host } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { eventJson, eventLine } from '../event-lines.js';
import { fromGrpc, isBrokenConnection } from '../grpc-errors.js';
import { askAll } from '../hosts/ask.js';
import { throwFailures } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';

export interface EventsOptions {
  resumeToken?: string;
  count?: number;
  output: OutputForm;
}

/** Between two attempts to reach a host that has been there. */
const RETRY_MS = 2000;

/** Called with each event of a host. */
type Take = (host: string, event: WatchEventsResponse) => void;

/** Prints events until --count is reached or the user has seen enough; rejects when hosts fail at the beginning. */
export async function events(command: Command, options: EventsOptions): Promise<void> {
  const hosts = hostsOf(globalOptions(command));
  const { resumeToken = '', count = Infinity } = options;
  if (resumeToken !== '' && hosts.length > 1)
    throw new CliError('a resume token is of one host: give one --host', EXIT.usage);
  const answers = await interruptible(async (interrupt) => {
    const enough = new AbortController();
    const signal = AbortSignal.any([interrupt, enough.signal]);
    let taken = 0;
    const take: Take = (host, event) => {
      if (taken === count) return;
      const text =
        options.output === 'json' ? JSON.stringify(eventJson(host, event)) : eventLine(host, event);
      process.stdout.write(`${text}\n`);
      taken += 1;
      if (taken === count) enough.abort();
    };
    const followOne = (host: Host): Promise<void> => follow(host, resumeToken, take, signal);
    return askAll(hosts, followOne, { parallel: hosts.length });
  });
  throwFailures(answers);
}

/** Hands over the events of a host, and goes on where it was when the connection breaks. */
async function follow(host: Host, token: string, take: Take, signal: AbortSignal): Promise<void> {
  const at = { token, isConnected: false, isThere: false };
  const note = (message: string): void => {
    process.stderr.write(`elioctl: ${message}\n`);
  };
  const connected = (): void => {
    at.isConnected = true;
    at.isThere = true;
  };
  const takeOne = (event: WatchEventsResponse): void => {
    at.token = event.resumeToken;
    take(host.label, event);
  };
  while (!signal.aborted) {
    try {
      await readEvents(host, at.token, connected, takeOne, signal);
    } catch (error) {
      if (error instanceof CliError && error.reason === 'EVENTS_LOST' && at.token !== token) {
        note(`${host.label}: the agent no longer has what happened meanwhile: from here on anew`);
        at.token = '';
        continue;
      }
      // Once there, a host is waited for.
      if (!at.isThere || !isBrokenConnection(error)) throw error;
      if (at.isConnected) note(`${error.message}: trying again`);
      at.isConnected = false;
    }
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function readEvents(
  host: Host,
  resumeToken: string,
  connected: () => void,
  take: (event: WatchEventsResponse) => void,
  signal: AbortSignal,
): Promise<void> {
  const connection: Connection = host.connect();
  const call = connection.events.watchEvents({ resumeToken });
  call.once('metadata', connected);
  const cancel = (): void => {
    call.cancel();
  };
  signal.addEventListener('abort', cancel, { once: true });
  try {
    for await (const event of call) take(event as WatchEventsResponse);
  } catch (error) {
    if (!signal.aborted) throw fromGrpc(error, host.label);
  } finally {
    signal.removeEventListener('abort', cancel);
    connection.close();
  }
}
