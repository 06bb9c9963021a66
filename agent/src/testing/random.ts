// SPDX-License-Identifier: Apache-2.0

/** Rounds after which no bit of the seed shows in what comes next. */
const WARM_UP = 12;

/**
 * Whole numbers in [0, limit), for limits up to 2^53, that look random; always the same ones for a seed. In 32 bits, because tests fill
 * megabytes with them: it is "sfc32" of the PractRand suite of random number tests.
 */
export function randomNumbers(seed: number): (limit: number) => number {
  let a = 0;
  let b = Math.floor(seed / 2 ** 32) | 0;
  let c = seed | 0;
  let counter = 1;
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < WARM_UP; i += 1) next();
  return (limit) =>
    limit <= 2 ** 32
      ? Math.floor((next() * limit) / 2 ** 32)
      : (next() * 2 ** 21 + (next() >>> 11)) % limit;
}
