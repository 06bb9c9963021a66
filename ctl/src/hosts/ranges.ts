// SPDX-License-Identifier: Apache-2.0
// Names with ranges: db[01:12].example.com stands for twelve hosts.

/** More than any fleet has: a slip of a digit must not fill the memory. */
const MOST_HOSTS = 10_000;

/** Both ends are digits and nothing else, which no IPv6 address in brackets is. */
const RANGE = /\[(\d+):(\d+)\]/;

/** The names that a pattern stands for, in ascending order; a zero at the front of the first number asks for its width. */
export function expandRanges(pattern: string): string[] {
  const range = RANGE.exec(pattern);
  if (!range) return [pattern];
  const [text, first = '', last = ''] = range;
  const [from, to] = [Number(first), Number(last)];
  if (to < from) throw new RangeError(`the range ${text} runs backwards`);
  if (to - from >= MOST_HOSTS) throw new RangeError(`the range ${text} is too long`);
  const width = first.startsWith('0') ? first.length : 0;
  const before = pattern.slice(0, range.index);
  const rests = expandRanges(pattern.slice(range.index + text.length));
  if ((to - from + 1) * rests.length > MOST_HOSTS) {
    throw new RangeError(`${pattern} stands for more than ${String(MOST_HOSTS)} hosts`);
  }
  return Array.from({ length: to - from + 1 }, (_, i) =>
    String(from + i).padStart(width, '0'),
  ).flatMap((number) => rests.map((rest) => before + number + rest));
}
