// SPDX-License-Identifier: Apache-2.0
// Options that several commands have.
import { Option } from 'commander';
import { parseCache, parseLease, parseSize } from './arguments.js';

export type OutputForm = 'table' | 'json';

/** How the commands that always print a result print it. */
export function outputOption(): Option {
  return outputChoice('how to print the result').default('table');
}

/** How the manual page's commands print a result for each host; without it one host prints what it always did. */
export function hostOutputOption(): Option {
  return outputChoice('print a result for each host (with several hosts: table is the default)');
}

function outputChoice(description: string): Option {
  return new Option('--output <form>', description).choices(['table', 'json']);
}

export function dryRunOption(): Option {
  return new Option('--dry-run', 'check, say what would be done, and change nothing');
}

export function yesOption(): Option {
  return new Option('--yes', 'do not ask');
}

/** -c of several commands. */
export function cacheOption(): Option {
  return new Option('-c <cache size>', 'limit of the index cache in MiB, or with K, M or G')
    .argParser(parseCache)
    .default(0n, '300 MiB');
}

/** -f of several commands. */
export function cowSizeOption(): Option {
  return new Option('-f <fallocate>', 'size of the COW file in MiB, or with K, M or G')
    .argParser(parseSize)
    .default(0n, '10 % of the device');
}

/** How long a snapshot lives that nobody uses. */
export function leaseOption(): Option {
  return new Option(
    '--lease <seconds>',
    'go to incremental mode when nobody has used the snapshot for so long (a week at most; 0: never)',
  ).argParser(parseLease);
}

export function ignoreErrorsOption(): Option {
  return new Option('-i', 'failed reads of the image give zeros');
}

/** Appends to an option that may be repeated and takes lists. */
export function appendList(value: string, former: string[] | undefined): string[] {
  return [...(former ?? []), ...value.split(',')];
}
