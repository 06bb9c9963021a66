// SPDX-License-Identifier: Apache-2.0
// selfcheck.js [FAULT...]: are the tests able to fail? With each fault point (driver/fault.h) switched on, a test must; and
// with none, the same tests must pass. Prints what each breaks and who noticed.
import { say } from './harness/process.js';
import {
  conclude,
  nothing,
  runSuites,
  scenarioSuites,
  type Suite,
  type SuiteResult,
} from './harness/runner.js';

/** The fault points: the promise that each breaks, the scenario and the tests of it that must notice. */
const faultPoints: Readonly<Record<string, { breaks: string; scenario: string; tests: string }>> = {
  skip_save: {
    breaks: 'A write is let go before what it overwrites is saved.',
    scenario: 'driver-instant',
    tests: 'writers of files',
  },
  drop_bit: {
    breaks: 'The first block of a write is not marked as changed.',
    scenario: 'driver-index',
    tests: 'exactly the blocks',
  },
  publish_early: {
    breaks: 'A snapshot begins before its filesystem is frozen.',
    scenario: 'driver-instant',
    tests: 'leaves the filesystem clean',
  },
  no_drain: {
    breaks: 'What had passed before a snapshot began may land after it.',
    scenario: 'driver-instant',
    tests: 'mapped device that takes its time',
  },
  beside_store: {
    breaks: 'What goes to the store lands one sector too far.',
    scenario: 'driver-index',
    tests: 'COW file of many extents',
  },
  store_unguarded: {
    breaks: 'Who writes to the store is not noticed.',
    scenario: 'driver-cowfile',
    tests: 'past the filesystem',
  },
  no_pin: {
    breaks: 'The COW file can be cut, and its blocks given to others.',
    scenario: 'driver-cowfile',
    tests: 'whatever is tried on ext4',
  },
  no_second_look: {
    breaks: 'What an image read found on the origin is not looked at again.',
    scenario: 'driver-instant',
    tests: 'that a write overtakes',
  },
  forget_part: {
    breaks: 'A part of a write to the store is taken for a write of somebody else.',
    scenario: 'driver-cowfile',
    tests: 'mirror splits',
  },
  own_everywhere: {
    breaks: 'A write to a store is taken for one of our own on every disk that it comes by.',
    scenario: 'driver-dormant',
    tests: 'writes there for itself',
  },
  look_twice: {
    breaks: 'An image read asks a bit twice, and takes both answers for one.',
    scenario: 'driver-trouble',
    tests: 'is a SCSI disk',
  },
  lose_bio: {
    breaks: 'A held write is ended without being submitted.',
    scenario: 'driver-instant',
    tests: 'writers of files',
  },
  miss_alias: {
    breaks: 'A write that comes by another device of the same disk is not seen.',
    scenario: 'driver-aliases',
    tests: 'is the whole disk',
  },
  pass_discard: {
    breaks: 'A discard is no change.',
    scenario: 'driver-operations',
    tests: 'discard that erases',
  },
  no_limit: {
    breaks: 'Memory for what is saved has no limit.',
    scenario: 'driver-parameters',
    tests: 'never has more saved',
  },
  leave_clean: {
    breaks: 'A COW file goes on to say that it is complete after a change.',
    scenario: 'driver-dormant',
    tests: 'raw writer writes meanwhile',
  },
  lose_index_page: {
    breaks: 'The last page of a part of the index is not written.',
    scenario: 'driver-reload',
    tests: 'after the module was unloaded',
  },
  no_fingerprint: {
    breaks: 'Nobody looks whether the filesystem was mounted without us.',
    scenario: 'driver-filesystems-ext',
    tests: 'a mount that nobody saw',
  },
  forget_frame: {
    breaks: 'The module goes although one of its frames will still return.',
    scenario: 'driver-unmount',
    tests: 'a mount that is under way',
  },
};

function suiteOf(fault: string): Suite {
  const point = faultPoints[fault];
  const suite = scenarioSuites().find(({ name }) => name === point?.scenario);
  if (!point || !suite)
    throw new Error(`no fault point "${fault}": ${Object.keys(faultPoints).join(', ')}`);
  return { ...suite, grep: point.tests, fault };
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
const suites = (wanted.length > 0 ? wanted : Object.keys(faultPoints)).map(suiteOf);
const intact = intactSuites(suites);
const broken = suites.map((suite) => ({
  ...suite,
  name: `${suite.name}!${suite.fault ?? ''}`,
  mustFail: true,
}));
say(`${String(suites.length)} fault points; then the same tests without any`);
const results = await runSuites([...broken, ...intact]);

const verdicts: Pick<SuiteResult, 'passed' | 'failed'>[] = intact.map(
  (suite) => results.get(suite) ?? nothing('it did not run'),
);
for (const suite of broken) {
  const titles = noticed(results.get(suite) ?? nothing('it did not run'));
  console.log(
    `${suite.fault ?? ''}: ${faultPoints[suite.fault ?? '']?.breaks ?? ''} ${titles.length > 0 ? titles.join('; ') : 'NOBODY NOTICED'}`,
  );
  verdicts.push({
    passed: titles.length > 0 ? 1 : 0,
    failed: titles.length > 0 ? 0 : 1,
  });
}
process.exit(conclude(verdicts));
