// SPDX-License-Identifier: Apache-2.0

/** Why it cannot be told what a filesystem has allocated. Then all of the volume counts as allocated. */
export class AllocationUnknownError extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'AllocationUnknownError';
  }
}

/** Throws AllocationUnknownError unless the condition holds. */
export function insist(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new AllocationUnknownError(reason);
}

/** Throws AllocationUnknownError when a set of feature flags has one that is not in `known`. */
export function insistOnFlags(flags: number, known: number, name: string): void {
  const others = (flags & ~known) >>> 0;
  insist(others === 0, `it has a feature that is not known here: ${name} 0x${others.toString(16)}`);
}
