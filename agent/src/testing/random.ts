// SPDX-License-Identifier: Apache-2.0

/** Numbers in [0, limit) that look random, always the same ones for a seed. */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = BigInt.asUintN(64, BigInt(seed) * 2n + 1n);
  return (limit) => {
    state = BigInt.asUintN(64, state ^ (state << 13n));
    state ^= state >> 7n;
    state = BigInt.asUintN(64, state ^ (state << 17n));
    return Number((state >> 16n) % BigInt(limit));
  };
}
