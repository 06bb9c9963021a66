// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { repository } from '../harness/cache.js';
import { checkCommand } from '../harness/process.js';
import { median } from './percentile.js';

export interface HelpTime {
  helpMs: number;
  nodeMs: number;
  ratio: number;
}

/** `elioctl --help` may take that many times what Node.js takes to do nothing. */
export const helpTimeTarget = 1.7;

const runs = 15;

/** The processor time, user and system, of one run: what else the machine does counts less in it than in the time of day. */
async function processorMs(args: readonly string[]): Promise<number> {
  const script = 'TIMEFORMAT="%U %S"; { time "$@" > /dev/null 2>&1; } 2>&1';
  const output = await checkCommand(['bash', '-c', script, 'bash', process.execPath, ...args]);
  return output.split(' ').reduce((sum, seconds) => sum + Number(seconds) * 1000, 0);
}

/** How long a person waits for `elioctl --help`, measured against Node.js itself in turns. */
export async function measureHelpTime(): Promise<HelpTime> {
  const elioctl = join(repository, 'dist', 'bundle', 'bin', 'elioctl.mjs');
  const help: number[] = [];
  const node: number[] = [];
  for (let i = 0; i < runs; i += 1) {
    node.push(await processorMs(['-e', '0']));
    help.push(await processorMs([elioctl, '--help']));
  }
  const [helpMs, nodeMs] = [median(help), median(node)];
  return { helpMs, nodeMs, ratio: helpMs / nodeMs };
}
