// SPDX-License-Identifier: Apache-2.0
// A sub-command that does the same on each of its hosts.
import type { Command } from 'commander';
import { globalOptions, hostsOf, type Connection, type Host } from '../connection.js';
import { interruptible } from '../interrupt.js';
import { CountProgress } from '../progress.js';
import type { OutputForm } from '../options.js';
import { askHosts, type HostAnswer } from './ask.js';
import { answersText, PLAN, throwFailures, type AnswerForm } from './results.js';

/** Asks the hosts of a command line. An interrupt lets those answer that are being asked, and asks no further ones. */
export async function askHostsOf<T>(
  command: Command,
  ask: (connection: Connection) => Promise<T>,
): Promise<HostAnswer<T>[]> {
  const options = globalOptions(command);
  return askTogether(hostsOf(options), options.parallel, ask);
}

async function askTogether<T>(
  hosts: readonly Host[],
  parallel: number,
  ask: (connection: Connection) => Promise<T>,
): Promise<HostAnswer<T>[]> {
  // One host is not waited for: an interrupt ends the program.
  if (hosts.length === 1) return askHosts(hosts, ask, { parallel });
  const progress = new CountProgress(hosts.length);
  try {
    return await interruptible((signal) => {
      const onAnswer = (): void => {
        progress.advance();
      };
      return askHosts(hosts, ask, { parallel, signal, onAnswer });
    });
  } finally {
    progress.stop();
  }
}

export interface TaskOptions {
  output?: OutputForm;
  dryRun?: true;
}

/** What a command does on each host. */
export interface HostTask<T> {
  run: (connection: Connection) => Promise<T>;
  form: AnswerForm<T>;
  /** Checks with calls that only read, and tells what `run` would do. Absent: the task itself only reads. */
  plan?: (connection: Connection) => Promise<string>;
  /** Called before anything is done on any host; rejects when it is not to be done. */
  confirm?: (hosts: readonly string[]) => Promise<void>;
}

/** Runs a task on the hosts of a command line and prints what they answer. Rejects when one of them fails. */
export async function runOnHosts<T>(
  command: Command,
  options: TaskOptions,
  task: HostTask<T>,
): Promise<void> {
  const globals = globalOptions(command);
  const { parallel } = globals;
  const hosts = hostsOf(globals);
  const print = <A>(answers: readonly HostAnswer<A>[], form: AnswerForm<A>): void => {
    process.stdout.write(answersText(answers, form, options.output));
    throwFailures(answers);
  };
  const { run, plan } = task;
  if (options.dryRun === true && plan) {
    print(await askTogether(hosts, parallel, plan), PLAN);
    return;
  }
  await task.confirm?.(hosts.map(({ label }) => label));
  print(await askTogether(hosts, parallel, run), task.form);
}
