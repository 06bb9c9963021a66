// SPDX-License-Identifier: Apache-2.0
// The commands that need no agent.
import { Argument, type Command } from 'commander';
import { parseCount } from '../arguments.js';
import { appendList } from '../options.js';

interface CertsOptions {
  out: string;
  name: string[];
  days: number;
}

export function addTools(program: Command): void {
  program
    .command('certs')
    .description('make a throw-away CA with certificates for agents and clients, to try things out')
    .requiredOption('--out <directory>', 'where they go; it must hold no CA yet')
    .option(
      '--name <host>',
      "an agent's host name or address (repeated, or a list)",
      appendList,
      [],
    )
    .option('--days <n>', 'days until they expire', parseCount, 90)
    .action(async (options: CertsOptions) => {
      const { makeCertificates } = await import('../certificates.js');
      await makeCertificates(options.out, options.name, options.days);
    });

  program
    .command('completion')
    .summary('print what makes a shell complete elioctl')
    .description(
      'Print what makes a shell complete elioctl. An installed elioctl has it already; otherwise: eval "$(elioctl completion bash)".',
    )
    .addArgument(new Argument('<shell>', 'for which shell').choices(['bash', 'zsh', 'fish']))
    .action(async (shell: 'bash' | 'zsh' | 'fish') => {
      const { completionScript } = await import('../completion.js');
      process.stdout.write(completionScript(program, shell));
    });
}
