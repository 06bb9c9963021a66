// SPDX-License-Identifier: Apache-2.0
// run.js [lint] [unit] [scenarios] [scenario:NAME]...: runs suites two at a time. Results and the logs of failures go to
// build/test-results/SUITE/; the last line of stdout is the sum: "N passed, N failed".
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
import { say } from './process.js';

interface Suite {
  name: string;
  files: string[];
  /** Of one test. */
  timeoutMs: number;
}

interface Counts {
  passed: number;
  failed: number;
}

const parallelSuites = 2;
const minuteMs = 60_000;
const suiteLimitMs = 30 * minuteMs;
const results = join(repository, 'build', 'test-results');
const dist = join(repository, 'dist');

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

function suitesOf(word: string): Suite[] {
  const [kind, name] = word.split(':');
  switch (kind) {
    case 'lint':
      return [
        { name: 'lint', files: compiled(['integration'], '.lint.js'), timeoutMs: 15 * minuteMs },
      ];
    case 'unit': {
      const files = compiled(['agent', 'ctl', 'integration'], '.test.js');
      return [{ name: 'unit', files, timeoutMs: minuteMs }];
    }
    case 'scenarios':
    case 'scenario':
      // The main job and elioctl take longest: they must not be what is left over at the end.
      return compiled(['integration/scenarios'], '.scenario.js')
        .reverse()
        .map((file) => ({
          name: basename(file, '.scenario.js'),
          files: [file],
          timeoutMs: 10 * minuteMs,
        }))
        .filter((suite) => name === undefined || suite.name === name);
    default:
      throw new Error(`unknown suite "${word}": lint, unit, scenarios or scenario:NAME`);
  }
}

/** Runs one suite in a process of its own and reports it in one line, with its output when something failed. */
async function runSuite(suite: Suite): Promise<Counts> {
  const directory = join(results, suite.name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  say(`${suite.name}: running`);
  const startMs = Date.now();
  const log = join(directory, 'output.log');
  await new Promise<void>((resolve, reject) => {
    const main = join(import.meta.dirname, 'suite.js');
    const args = [main, suite.name, directory, String(suite.timeoutMs), ...suite.files];
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, ...args], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ELIO_LOG_DIR: directory },
    });
    const output = createWriteStream(log);
    child.stdout.pipe(output, { end: false });
    child.stderr.pipe(output, { end: false });
    // Someone who waits for one suite wants to see it run.
    if (verbose) {
      child.stdout.pipe(process.stderr, { end: false });
      child.stderr.pipe(process.stderr, { end: false });
    }
    const limit = setTimeout(() => {
      output.write(`killed: not finished after ${String(suiteLimitMs / minuteMs)} minutes\n`);
      child.kill('SIGKILL');
    }, suiteLimitMs);
    child.once('error', reject);
    child.once('close', () => {
      clearTimeout(limit);
      output.end(resolve);
    });
  });
  const counts = readCounts(join(directory, 'counts.json'));
  const seconds = Math.round((Date.now() - startMs) / 1000);
  const summary = `${String(counts.passed)} passed, ${String(counts.failed)} failed, ${String(seconds)} s`;
  if (counts.failed === 0) {
    say(`${suite.name}: ok (${summary})`);
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) rmSync(join(directory, entry.name), { recursive: true });
    }
  } else {
    if (!verbose) process.stderr.write(readFileSync(log));
    say(`${suite.name}: FAILED (${summary}); its logs are in ${relative(repository, directory)}`);
  }
  return counts;
}

/** A suite that ends without its counts broke down before its tests: that is a failure too. */
function readCounts(file: string): Counts {
  if (!existsSync(file)) return { passed: 0, failed: 1 };
  return JSON.parse(readFileSync(file, 'utf8')) as Counts;
}

const suites = process.argv.slice(2).flatMap(suitesOf);
const verbose = suites.length === 1;
const total: Counts = { passed: 0, failed: 0 };
const queue = [...suites];
await Promise.all(
  Array.from({ length: parallelSuites }, async () => {
    for (let suite = queue.shift(); suite; suite = queue.shift()) {
      const { passed, failed } = await runSuite(suite);
      total.passed += passed;
      total.failed += failed;
    }
  }),
);
if (total.passed + total.failed === 0)
  say(`no test ran: nothing matches "${process.argv.slice(2).join(' ')}"`);
console.log(`${String(total.passed)} passed, ${String(total.failed)} failed`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
