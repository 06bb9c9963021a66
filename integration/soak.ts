// SPDX-License-Identifier: Apache-2.0
// soak.js HOURS [SEED]: the driver's scenarios on KERNEL and the hostile clients of the agent, chosen at random and each with random
// choices of its own, until the time is over; on a debug kernel with what lets memory and devices fail there. A failure names scenario and seed, with which `ELIO_SEED=n make vm-test SCENARIO=name` does the same again.
import { randomInt } from 'node:crypto';
import { randomNumbers } from '../agent/src/testing/random.js';
import { defaultKernel, kernelSource } from './harness/debian.js';
import { say } from './harness/process.js';
import { conclude, runSuites, scenarioSuites, type SuiteResult } from './harness/runner.js';

const [hours = 1, seed = randomInt(2 ** 31)] = process.argv.slice(2).map(Number);
if (!(hours > 0) || !Number.isSafeInteger(seed))
  throw new Error('usage: soak.js HOURS [SEED]: how long, and a number for the random choices');
const endMs = Date.now() + hours * 3600 * 1000;
const next = randomNumbers(seed);
const { debug } = kernelSource(defaultKernel());
const scenarios = scenarioSuites(debug === undefined ? 'any kernel' : 'debug kernel').filter(
  ({ name }) => /^(driver|debug)-|^agent-fuzz$/.test(name),
);
/** So many are chosen together; three run at a time. */
const atOnce = 6;

say(`soaking for ${String(hours)} hours, seed ${String(seed)}`);
const results: SuiteResult[] = [];
const failed: string[] = [];
for (let begun = 0; Date.now() < endMs; begun += atOnce) {
  const chosen = Array.from({ length: atOnce }, (_, i) => {
    const suite = scenarios[next(scenarios.length)];
    if (!suite) throw new Error('there are no scenarios: run make build');
    return { ...suite, name: `${suite.name}#${String(begun + i)}`, seed: next(1_000_000) };
  });
  for (const [suite, result] of await runSuites(chosen)) {
    results.push(result);
    if (result.failed > 0) failed.push(`${suite.name}, ELIO_SEED=${String(suite.seed)}`);
  }
}
for (const one of failed) console.log(`failed: ${one}`);
process.exit(conclude(results));
