// SPDX-License-Identifier: Apache-2.0
// suite.js NAME DIRECTORY TIMEOUT_MS FILE...: runs mocha over compiled test files; the readable report goes to stdout,
// results.xml (JUnit) and result.json to DIRECTORY. GREP in the environment chooses tests by name.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Mocha from 'mocha';
import type { SuiteResult } from './runner.js';

const [name = '', directory = '', timeoutMs = '', ...files] = process.argv.slice(2);

/** So much of a failure's message stands in the summary; the report has all of it. */
const MESSAGE_LENGTH = 1000;

class SuiteReporter extends Mocha.reporters.Spec {
  readonly #xml: Mocha.reporters.XUnit;

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const reporterOptions = { output: join(directory, 'results.xml'), suiteName: name };
    this.#xml = new Mocha.reporters.XUnit(runner, { ...options, reporterOptions });
    const tests: { title: string; passed: boolean }[] = [];
    runner.on('test end', ({ title, state }) => tests.push({ title, passed: state === 'passed' }));
    const failures: string[] = [];
    runner.on('fail', (failed: Mocha.Runnable, error: unknown) => {
      const message = String(error).replaceAll(/\s+/g, ' ').slice(0, MESSAGE_LENGTH);
      failures.push(`${failed.fullTitle()}: ${message}`);
    });
    runner.once('end', () => {
      const passed = runner.stats?.passes ?? 0;
      const failed = runner.stats?.failures ?? 1;
      const result: SuiteResult = { passed, failed, tests, failures };
      writeFileSync(join(directory, 'result.json'), JSON.stringify(result));
    });
  }

  // Without it mocha does not wait until the XML is on disk.
  override done(failures: number, finish: (failures: number) => void): void {
    this.#xml.done(failures, finish);
  }
}

const grep = process.env['GREP'];
const mocha = new Mocha({
  reporter: SuiteReporter,
  timeout: Number(timeoutMs),
  color: process.stdout.isTTY,
  forbidPending: true,
  forbidOnly: true,
  ...(grep === undefined ? {} : { grep }),
});
for (const file of files) mocha.addFile(file);
await mocha.loadFilesAsync();
mocha.run((failures) => {
  process.exit(failures === 0 ? 0 : 1);
});
