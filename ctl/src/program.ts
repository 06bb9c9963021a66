// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { addBackup } from './commands/backup.js';
import { addCerts } from './commands/certs.js';
import { addDestroy } from './commands/destroy.js';
import { addDoctor } from './commands/doctor.js';
import { addGetFreeMinor } from './commands/get-free-minor.js';
import { addInfo } from './commands/info.js';
import { addList } from './commands/list.js';
import { addReconfigure } from './commands/reconfigure.js';
import { addReload } from './commands/reload.js';
import { addRestore } from './commands/restore.js';
import { addSetupSnapshot } from './commands/setup-snapshot.js';
import { addTransitions } from './commands/transitions.js';
import { addVerify } from './commands/verify.js';

const EXIT_CODES = `
Exit status:
  0 ok   1 failed   2 usage   3 failed on some hosts   4 not found
  5 the state does not allow it   6 not reachable or not allowed
  7 busy   8 time-out   130 interrupted
`;

function version(): string {
  const manifest = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
}

/** Appends to a repeatable option. */
function append(value: string, former: string[] | undefined): string[] {
  return [...(former ?? []), value];
}

/** The whole command line of elioctl. What a command needs to run is loaded when it runs. */
export function buildProgram(): Command {
  const program = new Command('elioctl')
    .description(
      'Snapshots, change tracking and backups of block devices, here or on another host.',
    )
    .version(version())
    .option('--host <host[:port]>', 'the agent on another host (7443 is the default port)', append)
    .option('--socket <path>', "the local agent's socket (or ELIO_SOCKET)")
    .option('--ca <file>', 'certificate of the CA (or ELIO_CA)')
    .option('--cert <file>', 'certificate of this client (or ELIO_CERT)')
    .option('--key <file>', 'key of this client (or ELIO_KEY)')
    .addHelpText('after', EXIT_CODES)
    .exitOverride()
    // Errors are printed in one place, in one line.
    .configureOutput({ outputError: () => undefined });
  addSetupSnapshot(program);
  addReload(program);
  addTransitions(program);
  addDestroy(program);
  addReconfigure(program);
  addInfo(program);
  addGetFreeMinor(program);
  addList(program);
  addBackup(program);
  addVerify(program);
  addRestore(program);
  addDoctor(program);
  addCerts(program);
  return program;
}
