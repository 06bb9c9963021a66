// SPDX-License-Identifier: Apache-2.0
// matrix.js [KERNEL...] [--scenario NAME]...: runs the driver's scenarios on kernels, all on all when nothing is named, and
// prints a table. What has passed is kept: a run that was interrupted or had failures goes on with what is left, unless module,
// kernel or tests have changed. A run of all scenarios on all kernels (debug kernels are none of them) writes README's tables: of
// those kernels on which all have passed.
import { readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import { artifact, earlierArtifact, fingerprint, repository } from './harness/cache.js';
import { debugKernels, kernelRoot, kernels, kernelSource, testRoot } from './harness/debian.js';
import { buildModule, guestPrograms } from './harness/payload.js';
import { say } from './harness/process.js';
import {
  conclude,
  onKernel,
  runSuites,
  scenarioSuites,
  type Suite,
  type SuiteResult,
} from './harness/runner.js';

/** The tests of the scenarios whose name begins like this are about what README claims: "WHAT: what is right of it". */
const claims = [
  { heading: 'Filesystem', scenarios: 'driver-filesystems' },
  { heading: 'Device', scenarios: 'driver-devices' },
];
/** What runs on another flavour of a kernel, which has the same source. */
const smoke = ['driver-contract', 'driver-instant', 'driver-index'];
/** Where it is filesystem and device that vary, not what the driver does: on a debug kernel only when named, each takes half an hour. */
const varieties = ['driver-devices', 'driver-filesystems-ext', 'driver-filesystems-xfs'];
/** Where several processors meet: what runs where data races are looked for. */
const concurrent = [
  'driver-fuzz',
  'driver-instant',
  'driver-limits',
  'driver-many',
  'driver-reload',
  'driver-stress',
  'driver-trouble',
  'driver-unmount',
];
const readme = join(repository, 'README.md');
const begin = '<!-- written by make matrix: begin -->';
const end = '<!-- written by make matrix: end -->';

interface Column {
  kernel: string;
  release: string;
  results: Map<string, SuiteResult>;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function verdict(result: SuiteResult | undefined): string {
  if (!result) return '-';
  return result.failed === 0
    ? String(result.passed)
    : `${String(result.failed)} of ${String(result.passed + result.failed)} FAILED`;
}

function scenarioTable(columns: readonly Column[], scenarios: readonly string[]): string {
  return table(
    ['Tests passed', ...columns.map(({ release }) => release)],
    scenarios.map((name) => [name, ...columns.map(({ results }) => verdict(results.get(name)))]),
  );
}

/** Of the kernels on which these scenarios have run. */
function claimTable(all: readonly Column[], heading: string, scenarios: string): string {
  const testsOf = ({ results }: Column): SuiteResult['tests'] =>
    [...results].filter(([name]) => name.startsWith(scenarios)).flatMap(([, { tests }]) => tests);
  const columns = all.filter((column) => testsOf(column).length > 0);
  const subjectOf = (title: string): string => title.split(':', 1)[0] ?? title;
  const subjects = new Set(
    columns.flatMap((column) => testsOf(column).map(({ title }) => subjectOf(title))),
  );
  const cell = (column: Column, subject: string): string => {
    const tests = testsOf(column).filter(({ title }) => subjectOf(title) === subject);
    if (tests.length === 0 || !tests.every(({ passed }) => passed)) return '-';
    return tests.some(({ title }) => title.includes(': refused')) ? 'refused' : 'yes';
  };
  return table(
    [heading, ...columns.map(({ release }) => release)],
    [...subjects].map((subject) => [subject, ...columns.map((column) => cell(column, subject))]),
  );
}

/** Puts what was found between the two marks of README.md. */
async function writeReadme(columns: readonly Column[]): Promise<void> {
  const text = readFileSync(readme, 'utf8');
  const [before, rest] = text.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined)
    throw new Error(`README.md has no place for the table: "${begin}" and "${end}" are missing`);
  const tables = claims.map(({ heading, scenarios }) => claimTable(columns, heading, scenarios));
  const markdown = [before, begin, '\n\n', tables.join('\n\n'), '\n\n', end, after].join('');
  const options = await resolveConfig(readme);
  writeFileSync(readme, await format(markdown, { ...options, parser: 'markdown' }));
  say('README.md now has this table');
}

function runsOn(scenario: string, kernel: string): boolean {
  const { flavour, debug } = kernelSource(kernel);
  if (flavour === 'kcsan') return concurrent.includes(scenario);
  if (debug !== undefined) return !varieties.includes(scenario) || isNamed(scenario);
  return !scenario.startsWith('debug-') && (flavour === undefined || smoke.includes(scenario));
}

/** What the result of a scenario on a kernel depends on, besides the scenario. */
async function inputsOf(kernel: string): Promise<string[]> {
  const helpers = ['driver.js', 'filesystem.js'].map((file) =>
    fingerprint(join(repository, 'dist', 'integration', 'scenarios', file)),
  );
  return [
    await testRoot(),
    await kernelRoot(kernel),
    await buildModule(kernel),
    await fingerprint(await guestPrograms()),
    ...(await Promise.all(helpers)),
    process.env['ELIO_LENGTH'] ?? '',
    process.env['ELIO_SEED'] ?? '',
  ];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { scenario: { type: 'string', multiple: true } },
});
const isNamed = (scenario: string): boolean => values.scenario?.includes(scenario) ?? false;
const wanted = positionals.length > 0 ? positionals : Object.keys(kernels);
const all = scenarioSuites('debug kernel').filter(({ name }) => /^(driver|debug)-/.test(name));
const suites = all.filter(({ name }) => !values.scenario || isNamed(name));

say(`${String(suites.length)} scenarios on ${wanted.join(', ')}`);
// On a fresh machine the roots are made now, most of the time on one processor each.
const columns: Column[] = await Promise.all(
  wanted.map(async (kernel) => {
    const release = readFileSync(join(await kernelRoot(kernel), 'release'), 'utf8').trim();
    return { kernel, release, results: new Map<string, SuiteResult>() };
  }),
);
const origins = new Map<Suite, { column: Column; name: string; inputs: string[] }>();
const inputsOfKernels = await Promise.all(wanted.map(inputsOf));
for (const [i, column] of columns.entries()) {
  const shared = inputsOfKernels[i] ?? [];
  for (const suite of suites) {
    if (!runsOn(suite.name, column.kernel)) continue;
    const { name } = suite;
    const inputs = [...shared, ...(await Promise.all(suite.files.map(fingerprint)))];
    const earlier = earlierArtifact(`matrix-${name}`, inputs);
    if (earlier === undefined) {
      origins.set(onKernel(suite, column.kernel), { column, name, inputs });
    } else {
      const text = readFileSync(join(earlier, 'result.json'), 'utf8');
      column.results.set(name, JSON.parse(text) as SuiteResult);
      say(`${name}@${column.kernel}: passed in an earlier run`);
    }
  }
}
await runSuites([...origins.keys()], async (suite, result) => {
  const origin = origins.get(suite);
  if (!origin) return;
  origin.column.results.set(origin.name, result);
  if (result.failed > 0) return;
  await artifact(`matrix-${origin.name}`, origin.inputs, async (directory) => {
    await writeFile(join(directory, 'result.json'), JSON.stringify(result));
  });
});
const results = columns.flatMap((column) => [...column.results.values()]);

const names = suites.map(({ name }) => name).sort();
console.log(scenarioTable(columns, names));
const passed = columns.filter(
  ({ kernel, results: ofKernel }) =>
    !(kernel in debugKernels) && [...ofKernel.values()].every(({ failed }) => failed === 0),
);
const complete =
  suites.length === all.length && Object.keys(kernels).every((kernel) => wanted.includes(kernel));
if (complete && passed.length > 0) await writeReadme(passed);
process.exit(conclude(results));
