// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { parseCount } from './arguments.js';
import { addBackupSets } from './commands/backup-sets.js';
import { addBackups } from './commands/backups.js';
import { addFleet } from './commands/fleet.js';
import { addInquiry } from './commands/inquiry.js';
import { addTools } from './commands/tools.js';
import { addTracking } from './commands/tracking.js';
import { EXIT, EXIT_MEANINGS } from './errors.js';
import { appendList } from './options.js';

function version(): string {
  const manifest = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
}

function exitStatusHelp(): string {
  const lines = Object.entries(EXIT_MEANINGS).map(
    ([name, meaning]) => `  ${String(EXIT[name as keyof typeof EXIT]).padEnd(3)}  ${meaning}`,
  );
  return `\nExit status:\n${lines.join('\n')}\n`;
}

/** The whole command line of elioctl. What a command needs to run is loaded when it runs. */
export function buildProgram(): Command {
  const program = new Command('elioctl')
    .description('Snapshots, change tracking and backups of block devices, here or on other hosts.')
    .version(version())
    .option(
      '--host <host[:port]>',
      'the agent on another host (repeated, or a list; db[01:12] is a range; port 7443)',
      appendList,
    )
    .option('--inventory <file>', 'the hosts of a file, all or those of --group and --host')
    .option('--group <name>', 'a group of the inventory (repeated, or a list)', appendList)
    .option('--parallel <n>', 'hosts at a time', parseCount, 16)
    .option('--socket <path>', "the local agent's socket (or ELIO_SOCKET)")
    .option('--ca <file>', 'certificate of the CA (or ELIO_CA)')
    .option('--cert <file>', 'certificate of this client (or ELIO_CERT)')
    .option('--key <file>', 'key of this client (or ELIO_KEY)')
    .configureHelp({ showGlobalOptions: true })
    .addHelpText('after', exitStatusHelp)
    .exitOverride()
    // Errors are printed in one place, in one line.
    .configureOutput({ outputError: () => undefined });
  addTracking(program);
  addInquiry(program);
  addBackups(program);
  addBackupSets(program);
  addFleet(program);
  addTools(program);
  return program;
}
