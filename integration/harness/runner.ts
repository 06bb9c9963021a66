// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import {
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { basename, join, relative } from 'node:path';
import { repository } from './cache.js';
import { defaultKernel, slowness } from './debian.js';
import { isEmulatorFault } from './dmesg.js';
import { rounds } from './length.js';
import { say } from './process.js';

const minuteMs = 60_000;
/**
 * How many suites run at a time. A guest waits for a third of its time: for its devices, or for time to pass. One with a debug kernel
 * has always something to do: three take a tenth longer at once than one after the other in twos.
 */
function lanes(suites: readonly Suite[]): number {
  return suites.some(({ kernel }) => slowness(kernel ?? defaultKernel()) > 1) ? 2 : 3;
}
/** What a scenario may take of its usual times when it runs at full length. */
const lengthFactor = rounds(1, 20);
const suiteLimitMs = lengthFactor * 30 * minuteMs;
const results = join(repository, 'build', 'test-results');
const dist = join(repository, 'dist');

/** Test files that run in one process. */
export interface Suite {
  name: string;
  files: string[];
  /** Of one test. */
  timeoutMs: number;
  /** A key of the kernel table; the default kernel when left out. */
  kernel?: string;
  /** The fault point (driver/fault.h) that is switched on: a test must fail then. */
  fault?: string;
  /** What its random choices begin with (ELIO_SEED); its own when left out. */
  seed?: number;
  /** Only the tests whose names match this. */
  grep?: string;
  /** It is no news that a test fails, but that none does. */
  mustFail?: boolean;
}

/** What suite.js leaves: a suite that broke down before its tests has none of them and one failure. */
export interface SuiteResult {
  passed: number;
  failed: number;
  tests: { title: string; passed: boolean }[];
  /** Of each failure, of a hook too: whose it is and the first line of its message. */
  failures: string[];
}

/** The compiled test files below directories of dist/, sorted. */
function compiled(directories: readonly string[], suffix: string): string[] {
  return directories
    .map((directory) => join(dist, directory))
    .filter((directory) => existsSync(directory))
    .flatMap((directory) =>
      readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((file) =>
        join(directory, file),
      ),
    )
    .filter((file) => file.endsWith(suffix))
    .sort();
}

export function lintSuite(): Suite {
  const files = compiled(['integration'], '.lint.js');
  return { name: 'lint', files, timeoutMs: 15 * minuteMs };
}

export function unitSuite(): Suite {
  const files = compiled(['agent', 'ctl', 'integration'], '.test.js');
  return { name: 'unit', files, timeoutMs: minuteMs };
}

/** These take longest, and begin first: they must not be what is left over at the end. */
const LONGEST = ['main-job', 'reboot', 'backup-sets', 'agent'];

/**
 * A suite for each scenario, those that take longest first. Those that need what only a debug kernel has come after all others, and
 * only when asked for.
 */
export function scenarioSuites(kind: 'any kernel' | 'debug kernel' = 'any kernel'): Suite[] {
  const files = compiled(['integration/scenarios'], '.scenario.js');
  const isLong = (file: string): boolean => LONGEST.includes(basename(file, '.scenario.js'));
  const needsDebug = (file: string): boolean => basename(file).startsWith('debug-');
  const others = [
    ...files.filter(isLong),
    ...files.filter((file) => !isLong(file) && !needsDebug(file)),
  ];
  return (kind === 'any kernel' ? others : [...others, ...files.filter(needsDebug)]).map(
    (file) => ({
      name: basename(file, '.scenario.js'),
      files: [file],
      timeoutMs: lengthFactor * 10 * minuteMs,
    }),
  );
}

/** The suite on another kernel than the default. */
export function onKernel(suite: Suite, kernel: string): Suite {
  return { ...suite, name: `${suite.name}@${kernel}`, kernel };
}

/**
 * Runs suites, some at a time, each in a process of its own, and reports each in a line; with its output when something
 * failed. What failed stands once more at the end, a line each. Results and the logs of failures go to
 * build/test-results/SUITE/; `finished` is called with each result at once.
 */
export async function runSuites(
  suites: readonly Suite[],
  finished: (suite: Suite, result: SuiteResult) => Promise<void> = () => Promise.resolve(),
): Promise<Map<Suite, SuiteResult>> {
  const done = new Map<Suite, SuiteResult>();
  const queue = [...suites];
  // Someone who waits for one suite wants to see it run.
  const verbose = suites.length === 1;
  const worker = async (): Promise<void> => {
    for (let suite = queue.shift(); suite; suite = queue.shift()) {
      const result = await runSuite(suite, verbose);
      done.set(suite, result);
      await finished(suite, result);
    }
  };
  await Promise.all(Array.from({ length: lanes(suites) }, worker));
  for (const [suite, { failures }] of done) {
    if (suite.mustFail) continue;
    for (const failure of failures) say(`failed: ${suite.name}: ${failure}`);
  }
  return done;
}

/** Did one of the suite's guests die of what only an emulator does? */
function hasEmulatorFault(directory: string): boolean {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => /^serial.*\.log$/.test(basename(file)))
    .some((file) => isEmulatorFault(readFileSync(join(directory, file), 'utf8')));
}

/** Runs a suite; once more when it was the emulator that failed. */
async function runSuite(suite: Suite, verbose: boolean): Promise<SuiteResult> {
  const directory = join(results, suite.name);
  const log = join(directory, 'output.log');
  say(`${suite.name}: running`);
  let startMs = Date.now();
  let result = await runOnce(suite, directory, log, verbose);
  if (result.failed > 0 && !suite.mustFail && hasEmulatorFault(directory)) {
    say(`${suite.name}: the emulator went on executing code that had been replaced; once more`);
    startMs = Date.now();
    result = await runOnce(suite, directory, log, verbose);
  }
  const seconds = Math.round((Date.now() - startMs) / 1000);
  const summary = `${String(result.passed)} passed, ${String(result.failed)} failed, ${String(seconds)} s`;
  if (suite.mustFail) {
    say(`${suite.name}: ${result.failed > 0 ? 'fails, as it must' : 'PASSES'} (${summary})`);
  } else if (result.failed === 0) {
    say(`${suite.name}: ok (${summary})`);
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) rmSync(join(directory, entry.name), { recursive: true });
    }
  } else {
    if (!verbose) process.stderr.write(readFileSync(log));
    say(`${suite.name}: FAILED (${summary}); its logs are in ${relative(repository, directory)}`);
  }
  return result;
}

async function runOnce(
  suite: Suite,
  directory: string,
  log: string,
  verbose: boolean,
): Promise<SuiteResult> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  await new Promise<void>((resolve, reject) => {
    const main = join(import.meta.dirname, 'suite.js');
    const factor = slowness(suite.kernel ?? defaultKernel());
    const args = [main, suite.name, directory, String(factor * suite.timeoutMs), ...suite.files];
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, ...args], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ELIO_LOG_DIR: directory,
        ...(suite.kernel === undefined ? {} : { ELIO_KERNEL: suite.kernel }),
        ...(suite.fault === undefined ? {} : { ELIO_FAULT: suite.fault }),
        ...(suite.seed === undefined ? {} : { ELIO_SEED: String(suite.seed) }),
        ...(suite.grep === undefined ? {} : { GREP: suite.grep }),
      },
    });
    const output = createWriteStream(log);
    child.stdout.pipe(output, { end: false });
    child.stderr.pipe(output, { end: false });
    if (verbose) {
      child.stdout.pipe(process.stderr, { end: false });
      child.stderr.pipe(process.stderr, { end: false });
    }
    const limit = setTimeout(() => {
      output.write(
        `killed: not finished after ${String((factor * suiteLimitMs) / minuteMs)} minutes\n`,
      );
      child.kill('SIGKILL');
    }, factor * suiteLimitMs);
    child.once('error', reject);
    child.once('close', () => {
      clearTimeout(limit);
      output.end(resolve);
    });
  });
  return readResult(join(directory, 'result.json'));
}

/** The result of a suite without tests. */
export function nothing(why: string): SuiteResult {
  return { passed: 0, failed: 1, tests: [], failures: [why] };
}

function readResult(file: string): SuiteResult {
  if (!existsSync(file)) return nothing('it broke down: its log has no result');
  return JSON.parse(readFileSync(file, 'utf8')) as SuiteResult;
}

/** Prints the sum as the last line of stdout, "N passed, N failed", and returns the exit status. */
export function conclude(suiteResults: Iterable<Pick<SuiteResult, 'passed' | 'failed'>>): number {
  let passed = 0;
  let failed = 0;
  for (const result of suiteResults) {
    passed += result.passed;
    failed += result.failed;
  }
  console.log(`${String(passed)} passed, ${String(failed)} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}
