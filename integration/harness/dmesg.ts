// SPDX-License-Identifier: Apache-2.0

/** What the kernel prints when something is wrong; none of it may appear while a test runs. */
const complaints =
  /\bBUG\b|WARNING:|\bOops\b|Kernel panic|general protection|KASAN|UBSAN|refcount_t|blocked for more than|rcu.*\bstall|possible (?:circular|recursive|irq)|inconsistent lock state|suspicious RCU|bad unlock balance|held lock freed|sleeping function called|kmemleak: \d+ new/;

const linesAfterComplaint = 40;

/** The first complaint in a kernel log with the lines that follow it, or undefined for a clean log. */
export function findComplaint(log: string): string | undefined {
  const lines = log.split('\n');
  const first = lines.findIndex((line) => complaints.test(line));
  return first < 0 ? undefined : lines.slice(first, first + linesAfterComplaint).join('\n');
}
