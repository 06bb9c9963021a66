// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import type { BackupResult } from '../../ctl/src/backup/backup.js';
import { repository } from './cache.js';
import type { ClientTls } from './fleet.js';
import { runCommand, type CommandOptions, type CommandResult } from './process.js';

const main = join(repository, 'dist', 'bundle', 'bin', 'elioctl.mjs');

/** An emulated machine has no AES instructions: this cipher is several times faster there. */
const cipher = 'GRPC_SSL_CIPHER_SUITES=TLS_CHACHA20_POLY1305_SHA256';

/** This checkout's elioctl, without any options. */
export const elioctlProgram = ['env', cipher, process.execPath, main] as const;

/** Runs this checkout's elioctl on this machine against an agent reached over mTLS. */
export class RemoteElioctl {
  constructor(
    readonly address: string,
    readonly tls: ClientTls,
  ) {}

  /** The command line, for those who start the process themselves. */
  argv(...words: readonly string[]): string[] {
    const { ca, cert, key } = this.tls;
    const options = ['--host', this.address, '--ca', ca, '--cert', cert, '--key', key];
    return [...elioctlProgram, ...options, ...words];
  }

  /** Runs a command to its end, whatever its status. */
  run(words: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return runCommand(this.argv(...words), options);
  }

  /** Runs a command that has to succeed; returns its stdout, rejects with what it said. */
  async check(...words: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(words);
    if (status !== 0) {
      throw new Error(
        `elioctl ${words.join(' ')} failed with status ${String(status)}:\n${stdout}${stderr}`,
      );
    }
    return stdout;
  }

  /** Runs a backup that has to succeed. */
  async backup(...words: readonly string[]): Promise<BackupResult> {
    return JSON.parse(await this.check('backup', '--output', 'json', ...words)) as BackupResult;
  }
}
