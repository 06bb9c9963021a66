// SPDX-License-Identifier: Apache-2.0
// What several hosts answered, for people and for scripts, and the exit code that it comes to.
import {
  CliError,
  EXIT,
  HostsError,
  messageOf,
  UnreachableError,
  type ExitCode,
} from '../errors.js';
import { formatTable } from '../output.js';
import type { OutputForm } from '../options.js';
import type { HostAnswer } from './ask.js';

/** How the answer of one host is shown. */
export interface AnswerForm<T> {
  /** Heads of the columns that follow host and result. */
  columns: readonly string[];
  cells(answer: T): readonly string[];
  /** Keys that follow `host` and `result`. */
  json(answer: T): object;
  /** What one host prints without --output. */
  text(answer: T): string;
}

/** An answer that says nothing but that it was done. */
export const DONE: AnswerForm<unknown> = {
  columns: [],
  cells: () => [],
  json: () => ({}),
  text: () => '',
};

/** What would be done. */
export const PLAN: AnswerForm<string> = {
  columns: ['PLAN'],
  cells: (plan) => [plan],
  json: (plan) => ({ plan }),
  text: (plan) => `${plan}\n`,
};

function resultOf({ failure }: HostAnswer<unknown>): 'ok' | 'failed' | 'unreachable' {
  if (!failure) return 'ok';
  return failure instanceof UnreachableError ? 'unreachable' : 'failed';
}

export function exitCodeOf(failure: Error): ExitCode {
  return failure instanceof CliError ? failure.exitCode : EXIT.failed;
}

function jsonOf<T>(answer: HostAnswer<T>, form: AnswerForm<T>): object {
  const { host, failure } = answer;
  const head = { host, result: resultOf(answer) };
  if (!failure) return { ...head, ...form.json(answer.answer as T) };
  return {
    ...head,
    exit_status: exitCodeOf(failure),
    reason: failure instanceof CliError ? failure.reason : '',
    message: messageOf(failure),
  };
}

function rowOf<T>(answer: HostAnswer<T>, form: AnswerForm<T>): string[] {
  const cells = answer.failure ? [] : form.cells(answer.answer as T);
  return [answer.host, resultOf(answer), ...cells];
}

/** The text for stdout. One host without a wish for a form prints what it always did: nothing when it failed. */
export function answersText<T>(
  answers: readonly HostAnswer<T>[],
  form: AnswerForm<T>,
  output: OutputForm | undefined,
): string {
  const [first] = answers;
  if (answers.length === 1 && first && output === undefined) {
    return first.failure ? '' : form.text(first.answer as T);
  }
  if (output === 'json') {
    return `${JSON.stringify(answers.map((answer) => jsonOf(answer, form)))}\n`;
  }
  const rows = answers.map((answer) => rowOf(answer, form));
  return `${formatTable(['HOST', 'RESULT', ...form.columns], rows)}\n`;
}

/** The exit code of several failures: 3 when others succeeded, that of their class when all failed alike. */
function sharedExitCode(failures: readonly Error[], hosts: number): ExitCode {
  const codes = new Set(failures.map(exitCodeOf));
  if (codes.has(EXIT.interrupted)) return EXIT.interrupted;
  if (failures.length < hosts) return EXIT.partial;
  const [code = EXIT.failed] = codes;
  return codes.size === 1 ? code : EXIT.failed;
}

/** Throws what hosts did not answer: a line for each, those that could not be reached at the end. `noun`: what each answer is of. */
export function throwFailures(
  answers: readonly Pick<HostAnswer<unknown>, 'failure'>[],
  noun = 'hosts',
): void {
  const failures = answers.flatMap(({ failure }) => (failure ? [failure] : []));
  const [first] = failures;
  if (!first) return;
  if (answers.length === 1) throw first;
  const unreachable = failures.filter((failure) => failure instanceof UnreachableError);
  const others = failures.filter((failure) => !(failure instanceof UnreachableError));
  const parts = [
    ...(others.length > 0 ? [`${String(others.length)} failed`] : []),
    ...(unreachable.length > 0 ? [`${String(unreachable.length)} could not be reached`] : []),
  ];
  throw new HostsError(
    [...new Set([...others, ...unreachable].map(messageOf))],
    `of ${String(answers.length)} ${noun} ${parts.join(', ')}`,
    sharedExitCode(failures, answers.length),
  );
}
