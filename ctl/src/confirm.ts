// SPDX-License-Identifier: Apache-2.0
import { createInterface } from 'node:readline/promises';
import { CliError, EXIT } from './errors.js';

export interface Question {
  /** What is going to happen; a sentence without its full stop. */
  warning: string;
  /** What has to be typed to agree, and what it is. */
  agreement: string;
  agreementName: string;
}

/** Asks on a terminal; rejects when there is none, or when the answer is another one. */
export async function confirm(question: Question): Promise<void> {
  const { warning, agreement, agreementName } = question;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new CliError(`${warning}: add --yes if that is what you want`, EXIT.usage);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${warning}. Type ${agreementName} to go on: `);
  terminal.close();
  if (answer.trim() !== agreement) throw new CliError('nothing was done', EXIT.failed);
}
