// SPDX-License-Identifier: Apache-2.0
// matrix.js [KERNEL...] [--scenario NAME]...: runs the driver's scenarios on kernels, all on all when nothing is named, and
// prints a table. When all ran on all and passed, the table of what is supported is written into README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import { repository } from './harness/cache.js';
import { kernelRoot, kernels, kernelSource } from './harness/debian.js';
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
const smoke = ['driver-contract', 'driver-instant', 'driver-index', 'driver-reload'];
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

function claimTable(columns: readonly Column[], heading: string, scenarios: string): string {
  const testsOf = ({ results }: Column): SuiteResult['tests'] =>
    [...results].filter(([name]) => name.startsWith(scenarios)).flatMap(([, { tests }]) => tests);
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

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { scenario: { type: 'string', multiple: true } },
});
const wanted = positionals.length > 0 ? positionals : Object.keys(kernels);
const all = scenarioSuites().filter(({ name }) => name.startsWith('driver-'));
const suites = all.filter(({ name }) => values.scenario?.includes(name) ?? true);

say(`${String(suites.length)} scenarios on ${wanted.join(', ')}`);
const columns: Column[] = [];
for (const kernel of wanted) {
  const release = readFileSync(join(await kernelRoot(kernel), 'release'), 'utf8').trim();
  columns.push({ kernel, release, results: new Map() });
}
const origins = new Map<Suite, { column: Column; name: string }>();
for (const column of columns)
  for (const suite of suites)
    if (kernelSource(column.kernel).flavour === undefined || smoke.includes(suite.name))
      origins.set(onKernel(suite, column.kernel), { column, name: suite.name });
const results = await runSuites([...origins.keys()]);
for (const [suite, { column, name }] of origins) {
  const result = results.get(suite);
  if (result) column.results.set(name, result);
}

const names = suites.map(({ name }) => name).sort();
console.log(scenarioTable(columns, names));
const complete = suites.length === all.length && wanted.length === Object.keys(kernels).length;
if (complete && [...results.values()].every(({ failed }) => failed === 0))
  await writeReadme(columns);
process.exit(conclude(results.values()));
