// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import {
  connectivityState,
  credentials,
  Metadata,
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import type { Command } from 'commander';
import { z } from 'zod';
import { DataServiceClient } from '../../proto/gen/elio/v1/data.js';
import { EventServiceClient } from '../../proto/gen/elio/v1/event.js';
import { HostServiceClient } from '../../proto/gen/elio/v1/host.js';
import { RestoreServiceClient } from '../../proto/gen/elio/v1/restore.js';
import { SnapshotServiceClient } from '../../proto/gen/elio/v1/snapshot.js';
import { CliError, EXIT, UnreachableError } from './errors.js';
import { fromGrpc, LOCAL_LABEL, noAnswer } from './grpc-errors.js';
import { selectTargets, type Target } from './hosts/targets.js';
import { isStableId } from './device-name.js';
import { YamlFile } from './yaml-file.js';

const DEFAULT_SOCKET = '/run/elio/agent.sock';

/** A freeze waits for the filesystem's writes, and the agent for an image to be closed. */
export const SLOW_CALL_MS = 180_000;
const CALL_MS = 20_000;
/** A host to which there is no connection by then is not there, however long a call itself may take. */
const CONNECT_MS = 20_000;

/** Streams from the agent stall with the default window of 64 KiB as soon as there is a distance. */
export const WINDOW_SIZE = 8 << 20;

const configSchema = z.strictObject({
  ca: z.string().optional(),
  cert: z.string().optional(),
  key: z.string().optional(),
});

const globalSchema = z.object({
  host: z.array(z.string()).default([]),
  inventory: z.string().optional(),
  group: z.array(z.string()).default([]),
  parallel: z.number(),
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
  events: EventServiceClient;
  uploads: RestoreServiceClient;
  close(): void;
}

/** Certificates and key of this client, in PEM. */
interface ClientTls {
  ca: Buffer;
  cert: Buffer | null;
  key: Buffer | null;
}

/** Where the files of certificates and key are. */
export type TlsPaths = z.infer<typeof configSchema>;

/** What the options, the environment or the user's configuration say of certificates, in this order. */
export function tlsPaths(options: GlobalOptions): TlsPaths {
  const config = readConfig();
  return {
    ca: options.ca ?? process.env['ELIO_CA'] ?? config.ca,
    cert: options.cert ?? process.env['ELIO_CERT'] ?? config.cert,
    key: options.key ?? process.env['ELIO_KEY'] ?? config.key,
  };
}

function readConfig(): TlsPaths {
  const path = join(homedir(), '.config/elio/config.yaml');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return {};
  }
  return YamlFile.parse(text, path, configSchema).value;
}

function readCredential(path: string, option: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    throw new CliError(`${option}: cannot read ${path}`, EXIT.usage);
  }
}

function readTls({ ca, cert, key }: TlsPaths): ClientTls {
  if (ca === undefined) {
    throw new CliError(
      'another host needs --ca, --cert and --key (or ELIO_CA, ELIO_CERT, ELIO_KEY, or ~/.config/elio/config.yaml, or the inventory)',
      EXIT.usage,
    );
  }
  return {
    ca: readCredential(ca, '--ca'),
    cert: cert === undefined ? null : readCredential(cert, '--cert'),
    key: key === undefined ? null : readCredential(key, '--key'),
  };
}

function tlsCredentials({ ca, cert, key }: ClientTls): ChannelCredentials {
  try {
    return credentials.createSsl(ca, key, cert);
  } catch (error) {
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
        let unreachable = false;
        const timer = setTimeout(() => {
          const state = client.getChannel().getConnectivityState(false);
          unreachable = state !== connectivityState.READY;
          if (unreachable) call.cancel();
        }, CONNECT_MS);
        const call = method.call(target, request, new Metadata(), options, (error, answer) => {
          clearTimeout(timer);
          if (unreachable) reject(new UnreachableError(noAnswer(label)));
          else if (error) reject(fromGrpc(error, label));
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
  certifiedName: string | undefined,
): Connection {
  const options = {
    'grpc-node.flow_control_window': WINDOW_SIZE,
    // Each connection has a transport of its own: a restore uses several at once.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 20_000,
    // A unix socket has no host name; the default is not one that HTTP/2 likes.
    ...(local ? { 'grpc.default_authority': 'localhost' } : {}),
    ...(certifiedName === undefined ? {} : { 'grpc.ssl_target_name_override': certifiedName }),
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
    events: new EventServiceClient(address, channel, shared),
    uploads,
    close: () => {
      snapshots.close();
    },
  };
}

/** An agent that a command line names. */
export interface Host {
  label: string;
  /** Block devices that the inventory names for backups; undefined: none. */
  devices?: string[] | undefined;
  connect(): Connection;
}

/** Where the agent on this host listens. */
export function socketPath(options: GlobalOptions): string {
  return options.socket ?? process.env['ELIO_SOCKET'] ?? DEFAULT_SOCKET;
}

/** The agents that the options name; without any the one on this machine. No file of certificates is found missing later. */
export function hostsOf(options: GlobalOptions): Host[] {
  const targets = selectTargets(options);
  if (targets.length === 0) {
    const label = LOCAL_LABEL;
    const address = `unix:${socketPath(options)}`;
    const open = (): Connection =>
      connect(address, credentials.createInsecure(), label, true, undefined);
    return [{ label, connect: open }];
  }
  const defaults = tlsPaths(options);
  const channels = new Map<string, ChannelCredentials>();
  return targets.map((target) => {
    const channel = channelOf(target, defaults, channels);
    const { label, address, certifiedName, devices } = target;
    return {
      label,
      devices,
      connect: () => connect(address, channel, label, false, certifiedName),
    };
  });
}

/** Hosts of a fleet mostly share their certificates: each set is read once. */
function channelOf(
  target: Target,
  defaults: TlsPaths,
  known: Map<string, ChannelCredentials>,
): ChannelCredentials {
  const paths = { ...defaults, ...target.tls };
  const id = JSON.stringify([paths.ca, paths.cert, paths.key]);
  const channel = known.get(id) ?? tlsCredentials(readTls(paths));
  known.set(id, channel);
  return channel;
}

/** The sets of certificates that the agents on other hosts are shown. */
export function clientTlsPaths(options: GlobalOptions): TlsPaths[] {
  const targets = selectTargets(options);
  if (targets.length === 0) return [];
  const defaults = tlsPaths(options);
  const sets = targets.map(({ tls }) => ({ ...defaults, ...tls }));
  const ids = sets.map(({ ca, cert, key }) => JSON.stringify([ca, cert, key]));
  return sets.filter((_, i) => ids.indexOf(ids[i] ?? '') === i);
}

/** The one agent of a command that works on one host. */
export function openConnection(options: GlobalOptions): Connection {
  const [host, another] = hostsOf(options);
  if (another) throw new CliError('this command works on one host: give one --host', EXIT.usage);
  if (!host) throw new CliError('no host');
  return host.connect();
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

/** A block device for the agent: its path, or a stable id such as PARTUUID=... */
export function hostDevice(connection: Connection, device: string, name: string): string {
  return isStableId(device) ? device : hostPath(connection, device, name);
}

/** A path for the agent, which knows nothing of this process's directory. */
export function hostPath(connection: Connection, path: string, name: string): string {
  if (isAbsolute(path)) return path;
  if (connection.local && path !== '') return resolve(path);
  throw new CliError(
    `${name} ${JSON.stringify(path)}: on another host a path has to be absolute`,
    EXIT.usage,
  );
}
