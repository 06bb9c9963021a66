// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from 'node:util';
import { ConfigError, DEFAULT_CONFIG_PATH } from './config.js';

export const USAGE = `usage: eliod [--config FILE]
       eliod --version
Takes the calls of backup controllers and of elioctl on this host. Without --config it reads ${DEFAULT_CONFIG_PATH}, if that is there.`;

export interface Arguments {
  config: string | undefined;
  help: boolean;
  version: boolean;
}

/** What eliod was called with; throws ConfigError. */
export function readArguments(args: readonly string[]): Arguments {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
        version: { type: 'boolean', default: false },
      },
    });
    return { config: values.config, help: values.help, version: values.version };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`${why}\n${USAGE}`);
  }
}
