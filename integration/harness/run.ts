// SPDX-License-Identifier: Apache-2.0
// run.js [lint] [unit] [scenarios] [scenario:NAME] [smoke]...: runs suites. `scenarios` are all but the slowest, `smoke` is the
// driver's contract on the other kernels of the standard flavour. The last line of stdout is the sum: "N passed, N failed".
import { defaultKernel, standardKernels } from './debian.js';
import { say } from './process.js';
import {
  conclude,
  lintSuite,
  onKernel,
  runSuites,
  scenarioSuites,
  unitSuite,
  type Suite,
} from './runner.js';

/**
 * By name, and in `make test-long`, only: a processor that is emulated compiles the module for a quarter of an hour, and the second
 * kind of initramfs takes a root filesystem of its own.
 */
const SLOW = new Set(['install', 'reboot-dracut']);

function suitesOf(word: string): Suite[] {
  const [kind, name] = word.split(':');
  switch (kind) {
    case 'lint':
      return [lintSuite()];
    case 'unit':
      return [unitSuite()];
    case 'scenarios':
      return scenarioSuites().filter((suite) => !SLOW.has(suite.name));
    case 'scenario':
      return scenarioSuites().filter((suite) => suite.name === name);
    case 'smoke': {
      const contract = scenarioSuites().filter((suite) => suite.name === 'driver-contract');
      const others = standardKernels().filter((kernel) => kernel !== defaultKernel());
      return contract.flatMap((suite) => others.map((kernel) => onKernel(suite, kernel)));
    }
    default:
      throw new Error(`unknown suite "${word}": lint, unit, scenarios, scenario:NAME or smoke`);
  }
}

const words = process.argv.slice(2);
const results = await runSuites(words.flatMap(suitesOf));
if ([...results.values()].every(({ passed, failed }) => passed + failed === 0))
  say(`no test ran: nothing matches "${words.join(' ')}"`);
process.exit(conclude(results.values()));
