// SPDX-License-Identifier: Apache-2.0
import { defaultKernel, slowness } from './debian.js';

/** How often something is done: more with ELIO_LENGTH=long, otherwise less on a slow kernel when `slow` says so. */
export function rounds(short: number, long: number, slow = short): number {
  if (process.env['ELIO_LENGTH'] === 'long') return long;
  return slowness(defaultKernel()) > 1 ? slow : short;
}

/** Some of many cases of one kind, which ones ELIO_SEED decides; all of them with ELIO_LENGTH=long. */
export function sample<T>(cases: readonly T[], short: number): T[] {
  const from = Number(process.env['ELIO_SEED'] ?? 1) % cases.length;
  const rotated = [...cases.slice(from), ...cases.slice(0, from)];
  const distance = cases.length / rounds(Math.min(short, cases.length), cases.length);
  return rotated.filter((_, i) => Math.floor(i / distance) !== Math.floor((i - 1) / distance));
}
