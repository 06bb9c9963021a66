// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { LineCounter, parseDocument, isMap, type Document } from 'yaml';
import { z } from 'zod';
import { isErrnoException } from './errors.js';
import { LOG_LEVELS } from './log.js';
import { hooksSchema } from './services/hooks.js';

export const DEFAULT_CONFIG_PATH = '/etc/elio/agent.yaml';

const tlsSchema = z.strictObject({
  ca: z.string().default('/etc/elio/tls/ca.crt'),
  certificate: z.string().default('/etc/elio/tls/agent.crt'),
  key: z.string().default('/etc/elio/tls/agent.key'),
});

const limitsSchema = z.strictObject({
  connections: z.int().min(1).max(10_000).default(256),
  connections_per_client: z.int().min(1).max(10_000).default(64),
  /** Streams and calls at once on one connection. */
  streams_per_connection: z.int().min(1).max(10_000).default(100),
  calls_per_second: z.number().min(1).max(1_000_000).default(1000),
});

const configSchema = z.strictObject({
  socket: z.string().default('/run/elio/agent.sock'),
  /** "auto": when there are certificates. */
  tcp: z.enum(['auto', 'on', 'off']).default('auto'),
  listen: z.string().default('0.0.0.0:7443'),
  tls: tlsSchema.prefault({}),
  state_directory: z.string().default('/var/lib/elio'),
  log_level: z.enum(LOG_LEVELS).default('info'),
  /** Metrics and health over HTTP; "off": none. */
  metrics: z.string().default('127.0.0.1:9443'),
  limits: limitsSchema.prefault({}),
  hooks: hooksSchema.prefault({}),
});

export type Config = z.infer<typeof configSchema>;

export class ConfigError extends Error {}

/** Where in the file a path of keys is, or the nearest thing above it that is there. */
function lineOf(document: Document, counter: LineCounter, path: readonly PropertyKey[]): number {
  for (let n = path.length; n > 0; n -= 1) {
    const parent = n === 1 ? document.contents : document.getIn(path.slice(0, n - 1), true);
    if (!isMap(parent)) continue;
    const pair = parent.items.find((item) => String(item.key) === String(path[n - 1]));
    const range = (pair?.key as { range?: [number, number, number] } | undefined)?.range;
    if (range) return counter.linePos(range[0]).line;
  }
  return 1;
}

/** The configuration in a YAML text. Throws ConfigError that names file and line. */
export function parseConfig(text: string, path: string): Config {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter });
  const syntax = document.errors[0];
  if (syntax) {
    const line = counter.linePos(syntax.pos[0]).line;
    throw new ConfigError(`${path}:${String(line)}: ${syntax.message}`);
  }
  const result = configSchema.safeParse((document.toJS() as unknown) ?? {});
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const keys = issue?.code === 'unrecognized_keys' ? [issue.keys[0] ?? ''] : [];
  const line = lineOf(document, counter, [...(issue?.path ?? []), ...keys]);
  throw new ConfigError(`${path}:${String(line)}: ${issue?.message ?? 'not valid'}`);
}

/** Reads a configuration file; only the default path may be missing. */
export async function loadConfig(path: string | undefined): Promise<Config> {
  try {
    return parseConfig(
      await readFile(path ?? DEFAULT_CONFIG_PATH, 'utf8'),
      path ?? DEFAULT_CONFIG_PATH,
    );
  } catch (error) {
    if (path === undefined && isErrnoException(error) && error.code === 'ENOENT') {
      return configSchema.parse({});
    }
    throw error;
  }
}
