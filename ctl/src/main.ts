#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
import { CommanderError } from 'commander';
import { isErrnoException } from '../../agent/src/errors.js';
import { CliError, EXIT, messageOf } from './errors.js';
import { buildProgram } from './program.js';

/** One line for what a person can mend; a stack for what is a fault of ours. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.ok;
    if (error.code !== 'commander.help') {
      const message = error.message.replace(/^error: /, '');
      process.stderr.write(`elioctl: ${message} (see: elioctl help)\n`);
    }
    return EXIT.usage;
  }
  if (error instanceof CliError) {
    process.stderr.write(`elioctl: ${messageOf(error)}\n`);
    return error.exitCode;
  }
  // What the operating system refused is told by its own words: they name call and file.
  if (isErrnoException(error) && error.syscall !== undefined) {
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

try {
  await buildProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
