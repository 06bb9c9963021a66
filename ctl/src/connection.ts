// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import {
  credentials,
  Metadata,
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import type { Command } from 'commander';
import { parse } from 'yaml';
import { z } from 'zod';
import { DataServiceClient } from '../../proto/gen/elio/v1/data.js';
import { HostServiceClient } from '../../proto/gen/elio/v1/host.js';
import { RestoreServiceClient } from '../../proto/gen/elio/v1/restore.js';
import { SnapshotServiceClient } from '../../proto/gen/elio/v1/snapshot.js';
import { CliError, EXIT } from './errors.js';
import { fromGrpc, LOCAL_LABEL } from './grpc-errors.js';

const DEFAULT_SOCKET = '/run/elio/agent.sock';
const DEFAULT_PORT = 7443;

/** A freeze waits for the filesystem's writes, and the agent for an image to be closed. */
export const SLOW_CALL_MS = 180_000;
const CALL_MS = 20_000;

/** Streams from the agent stall with the default window of 64 KiB as soon as there is a distance. */
const WINDOW_SIZE = 8 << 20;

const configSchema = z.strictObject({
  ca: z.string().optional(),
  cert: z.string().optional(),
  key: z.string().optional(),
});

const globalSchema = z.object({
  host: z.array(z.string()).default([]),
  socket: z.string().optional(),
  ca: z.string().optional(),
  cert: z.string().optional(),
  key: z.string().optional(),
});

export type GlobalOptions = z.infer<typeof globalSchema>;

/** The options that every command has, wherever they stand on the line. */
export function globalOptions(command: Command): GlobalOptions {
  return globalSchema.parse(command.optsWithGlobals());
}

type UnaryMethod<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, answer: A) => void,
) => ClientUnaryCall;

/** A client's unary calls as promises with a deadline; they reject with CliError. */
type Unary<C> = {
  [K in keyof C]: C[K] extends UnaryMethod<infer Q, infer A>
    ? (request: Q, timeoutMs?: number) => Promise<A>
    : never;
};

/** The clients of one agent. */
export interface Connection {
  /** The agent's name in messages. */
  label: string;
  /** The agent is on this machine: paths are this machine's. */
  local: boolean;
  snapshots: Unary<SnapshotServiceClient>;
  hosts: Unary<HostServiceClient>;
  restores: Unary<RestoreServiceClient>;
  /** The services with streams. */
  data: DataServiceClient;
  uploads: RestoreServiceClient;
  close(): void;
}

function readConfig(): z.infer<typeof configSchema> {
  const path = join(homedir(), '.config/elio/config.yaml');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return {};
  }
  const result = configSchema.safeParse((parse(text) as unknown) ?? {});
  if (result.success) return result.data;
  throw new CliError(`${path}: ${result.error.issues[0]?.message ?? 'not valid'}`, EXIT.usage);
}

function readCredential(path: string, option: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    throw new CliError(`${option}: cannot read ${path}`, EXIT.usage);
  }
}

function tlsCredentials(options: GlobalOptions): ChannelCredentials {
  const config = readConfig();
  const ca = options.ca ?? process.env['ELIO_CA'] ?? config.ca;
  const cert = options.cert ?? process.env['ELIO_CERT'] ?? config.cert;
  const key = options.key ?? process.env['ELIO_KEY'] ?? config.key;
  if (ca === undefined) {
    throw new CliError(
      '--host needs --ca, --cert and --key (or ELIO_CA, ELIO_CERT, ELIO_KEY, or ~/.config/elio/config.yaml)',
      EXIT.usage,
    );
  }
  try {
    return credentials.createSsl(
      readCredential(ca, '--ca'),
      key === undefined ? null : readCredential(key, '--key'),
      cert === undefined ? null : readCredential(cert, '--cert'),
    );
  } catch (error) {
    if (error instanceof CliError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new CliError(`the certificates cannot be used: ${message}`, EXIT.usage);
  }
}

function unaryCalls<C extends Client>(client: C, label: string): Unary<C> {
  const get = (target: C, name: string | symbol): unknown => {
    const method = Reflect.get(target, name) as UnaryMethod<unknown, unknown>;
    return (request: unknown, timeoutMs = CALL_MS): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const options = { deadline: Date.now() + timeoutMs };
        method.call(target, request, new Metadata(), options, (error, answer) => {
          if (error) reject(fromGrpc(error, label));
          else resolve(answer);
        });
      });
  };
  return new Proxy(client, { get }) as unknown as Unary<C>;
}

function connect(
  address: string,
  channel: ChannelCredentials,
  label: string,
  local: boolean,
): Connection {
  const options = {
    'grpc-node.flow_control_window': WINDOW_SIZE,
    // Each connection has a transport of its own: a restore uses several at once.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 20_000,
    // A unix socket has no host name; the default is not one that HTTP/2 likes.
    ...(local ? { 'grpc.default_authority': 'localhost' } : {}),
  };
  const snapshots = new SnapshotServiceClient(address, channel, options);
  const shared = { ...options, channelOverride: snapshots.getChannel() };
  const uploads = new RestoreServiceClient(address, channel, shared);
  return {
    label,
    local,
    snapshots: unaryCalls(snapshots, label),
    hosts: unaryCalls(new HostServiceClient(address, channel, shared), label),
    restores: unaryCalls(uploads, label),
    data: new DataServiceClient(address, channel, shared),
    uploads,
    close: () => {
      snapshots.close();
    },
  };
}

/** The agents that the options name; without --host the one on this machine. */
export function openConnections(options: GlobalOptions): Connection[] {
  if (options.host.length === 0) {
    const socket = options.socket ?? process.env['ELIO_SOCKET'] ?? DEFAULT_SOCKET;
    return [connect(`unix:${socket}`, credentials.createInsecure(), LOCAL_LABEL, true)];
  }
  const channel = tlsCredentials(options);
  return options.host.map((host) => {
    const hasPort = /(^[^:]*|\]):\d+$/.test(host);
    return connect(hasPort ? host : `${host}:${String(DEFAULT_PORT)}`, channel, host, false);
  });
}

/** The one agent of a command that works on one host. */
export function openConnection(options: GlobalOptions): Connection {
  if (options.host.length > 1) throw new CliError('this command takes one --host', EXIT.usage);
  const [connection] = openConnections(options);
  if (!connection) throw new CliError('no host');
  return connection;
}

/** Opens the agent that a command's options name, for one task, and closes it whatever happens. */
export async function withConnection<T>(
  command: Command,
  task: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = openConnection(globalOptions(command));
  try {
    return await task(connection);
  } finally {
    connection.close();
  }
}

/** A path for the agent, which knows nothing of this process's directory. */
export function hostPath(connection: Connection, path: string, name: string): string {
  if (isAbsolute(path)) return path;
  if (connection.local && path !== '') return resolve(path);
  throw new CliError(
    `${name} ${JSON.stringify(path)}: with --host a path has to be absolute`,
    EXIT.usage,
  );
}
