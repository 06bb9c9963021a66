// SPDX-License-Identifier: Apache-2.0

/** How often something is done: more with ELIO_LENGTH=long. */
export function rounds(short: number, long: number): number {
  return process.env['ELIO_LENGTH'] === 'long' ? long : short;
}
