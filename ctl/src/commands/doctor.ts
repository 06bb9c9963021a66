// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import type { Connection } from '../connection.js';
import { formatTable } from '../output.js';
import { outputOption } from './list.js';

/** One thing that was looked at; `remedy` is empty when nothing is to be done. */
export interface Finding {
  verdict: 'ok' | 'note' | 'wrong';
  subject: string;
  message: string;
  remedy: string;
}

/** The module, as GetHost tells it. */
function moduleFinding(moduleVersion: string): Finding {
  const subject = 'kernel module';
  if (moduleVersion !== '')
    return { verdict: 'ok', subject, message: `version ${moduleVersion}`, remedy: '' };
  return {
    verdict: 'wrong',
    subject,
    message: 'not loaded: nothing can be tracked',
    remedy: 'modprobe elastio-snap; if it is not installed, make install',
  };
}

/** What can be written past a device that is, or could be, tracked. */
export function stackFindings(devices: readonly BlockDevice[]): Finding[] {
  return devices
    .filter((d) => d.lowerDevices.length > 0 && (d.mountPoints.length > 0 || d.minor !== undefined))
    .map((d) => ({
      verdict: 'note',
      subject: d.path,
      message: `it is made of ${d.lowerDevices.join(', ')}: what is written there, and not through ${d.path}, is not seen`,
      remedy: `write only through ${d.path}; after anything else take a full backup`,
    }));
}

async function examine(connection: Connection): Promise<Finding[]> {
  const { moduleVersion } = await connection.hosts.getHost({});
  const { blockDevices } = await connection.hosts.listBlockDevices({});
  return [moduleFinding(moduleVersion), ...stackFindings(blockDevices)];
}

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('look for what keeps hosts from being tracked, and say what to do')
    .addOption(outputOption())
    .action(async (options: { output: string }, command: Command) => {
      const { askHosts, throwFailures } = await import('../hosts.js');
      const { CliError, EXIT } = await import('../errors.js');
      const answers = await askHosts(command, examine);
      const found = answers.flatMap(({ host, answer }) =>
        (answer ?? []).map((finding) => ({ host, ...finding })),
      );
      const rows = found.map((f) => [f.host, f.verdict, f.subject, f.message, f.remedy]);
      const text =
        options.output === 'json'
          ? JSON.stringify(found)
          : formatTable(['HOST', 'VERDICT', 'SUBJECT', 'FOUND', 'REMEDY'], rows);
      if (found.length > 0) process.stdout.write(`${text}\n`);
      throwFailures(answers);
      const wrong = found.filter(({ verdict }) => verdict === 'wrong');
      if (wrong.length > 0)
        throw new CliError(
          `something is wrong: ${wrong.map((f) => `${f.subject} (${f.host})`).join(', ')}`,
          EXIT.failed,
        );
    });
}
