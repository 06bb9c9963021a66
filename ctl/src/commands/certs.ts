// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { parseCount } from '../arguments.js';

function append(value: string, former: string[]): string[] {
  return [...former, value];
}

interface Options {
  out: string;
  name: string[];
  days: number;
}

export function addCerts(program: Command): void {
  program
    .command('certs')
    .description('make a throw-away CA with certificates for agents and clients, to try things out')
    .requiredOption('--out <directory>', 'where they go; it must hold no CA yet')
    .option('--name <host>', "an agent's host name or address (repeatable)", append, [])
    .option('--days <n>', 'days until they expire', parseCount, 30)
    .action(async (options: Options) => {
      const { makeCertificates } = await import('../certificates.js');
      await makeCertificates(options.out, options.name, options.days);
    });
}
