#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
import { CommanderError } from 'commander';
import { CliError, EXIT, HostsError, isSystemError, messageOf } from './errors.js';
import { buildProgram } from './program.js';

/** One line for what a person can mend, and one for each host that failed; a stack for what is a fault of ours. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.ok;
    if (error.code !== 'commander.help') {
      const message = error.message.replace(/^error: /, '');
      process.stderr.write(`elioctl: ${message} (see: elioctl help)\n`);
    }
    return EXIT.usage;
  }
  if (error instanceof HostsError) {
    for (const line of error.lines) process.stderr.write(`elioctl: ${line}\n`);
  }
  if (error instanceof CliError) {
    process.stderr.write(`elioctl: ${messageOf(error)}\n`);
    return error.exitCode;
  }
  // What the operating system refused is told by its own words: they name call and file.
  if (isSystemError(error)) {
    process.stderr.write(`elioctl: ${messageOf(error)}\n`);
    return EXIT.failed;
  }
  process.stderr.write(
    `elioctl: ${error instanceof Error ? (error.stack ?? '') : String(error)}\n`,
  );
  return EXIT.failed;
}

// Of no use to a person: that an address is no name for TLS, for example, each time one is given as --host.
Object.assign(process, { noDeprecation: true });

// A pager or `head` that has seen enough closes the pipe: no fault of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(EXIT.failed);
});

let status: number = EXIT.ok;
try {
  await buildProgram().parseAsync();
} catch (error) {
  status = report(error);
}
// Not left to itself: a host that takes connections and never answers would keep the program for ever.
process.exit(status);
