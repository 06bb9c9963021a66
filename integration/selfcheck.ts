// SPDX-License-Identifier: Apache-2.0
// selfcheck.js [FAULT...]: are the tests able to fail? With each fault point of driver/fault.h switched on, tests that know of
// it must; and with none, the same tests must pass. Prints a table.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './harness/cache.js';
import { say } from './harness/process.js';
import {
  conclude,
  runSuites,
  scenarioSuites,
  type Suite,
  type SuiteResult,
} from './harness/runner.js';

/** For each fault point a scenario and the tests of it that must notice. */
const noticedBy: Readonly<Record<string, readonly [scenario: string, tests: string]>> = {
  skip_save: ['driver-instant', 'writers of files'],
  drop_bit: ['driver-index', 'exactly the blocks'],
  publish_early: ['driver-instant', 'leaves the filesystem clean'],
  no_drain: ['driver-instant', 'mapped device that takes its time'],
  beside_store: ['driver-index', 'COW file of many extents'],
  store_unguarded: ['driver-cowfile', 'past the filesystem'],
  no_pin: ['driver-cowfile', 'whatever is tried on ext4'],
  no_second_look: ['driver-instant', 'that a write overtakes'],
  lose_bio: ['driver-instant', 'writers of files'],
  miss_alias: ['driver-aliases', 'is the whole disk'],
  pass_discard: ['driver-operations', 'is preserved and told'],
  no_limit: ['driver-parameters', 'never has more saved'],
  leave_clean: ['driver-reload', 'forgotten after something had been written'],
  lose_index_page: ['driver-reload', 'after the module was unloaded'],
  no_fingerprint: ['driver-filesystems-ext', 'a mount that nobody saw'],
  forget_frame: ['driver-unmount', 'is not there yet when the module goes'],
};

/** The fault points that the driver has. */
function faultPoints(): string[] {
  const header = readFileSync(join(repository, 'driver', 'fault.h'), 'utf8');
  return [...header.matchAll(/^\tpoint\((\w+)\)/gm)].map(([, name]) => name ?? '');
}

function suiteOf(fault: string): Suite {
  const [scenario, grep] = noticedBy[fault] ?? [];
  const suite = scenarioSuites().find(({ name }) => name === scenario);
  if (!suite || grep === undefined)
    throw new Error(`no test is named for the fault point ${fault}: see ${import.meta.filename}`);
  return { ...suite, grep, fault };
}

/** The same tests with nothing switched on, a suite for each scenario. */
function intactSuites(suites: readonly Suite[]): Suite[] {
  const byName = new Map<string, Suite>();
  for (const suite of suites) {
    const earlier = byName.get(suite.name)?.grep;
    const grep = [earlier, suite.grep].filter((tests) => tests !== undefined).join('|');
    byName.set(suite.name, { ...suite, grep, fault: 'none' });
  }
  return [...byName.values()];
}

function noticed(result: SuiteResult): string[] {
  return result.tests.filter(({ passed }) => !passed).map(({ title }) => title);
}

const wanted = process.argv.slice(2);
const suites = (wanted.length > 0 ? wanted : faultPoints()).map(suiteOf);
const intact = intactSuites(suites);
const broken = suites.map((suite) => ({
  ...suite,
  name: `${suite.name}!${suite.fault ?? ''}`,
  mustFail: true,
}));
say(`${String(suites.length)} fault points; then the same tests without any`);
const results = await runSuites([...broken, ...intact]);

const verdicts: SuiteResult[] = intact.map(
  (suite) => results.get(suite) ?? { passed: 0, failed: 1, tests: [] },
);
for (const suite of broken) {
  const titles = noticed(results.get(suite) ?? { passed: 0, failed: 1, tests: [] });
  console.log(`${suite.fault ?? ''}: ${titles.length > 0 ? titles.join('; ') : 'NOBODY NOTICED'}`);
  verdicts.push({
    passed: titles.length > 0 ? 1 : 0,
    failed: titles.length > 0 ? 0 : 1,
    tests: [],
  });
}
process.exit(conclude(verdicts));
