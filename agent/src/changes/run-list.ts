// SPDX-License-Identifier: Apache-2.0

/** Blocks [first, first + count). Numbers are exact up to 2^53 blocks. */
export interface BlockRun {
  first: number;
  count: number;
}

const NUMBERS_OF_RUN = 2;
const FIRST_CAPACITY = 16;

/** Ascending runs that never touch. There can be millions of them: each takes two numbers, not an object. */
export class RunList implements Iterable<BlockRun> {
  private numbers: Float64Array;
  length = 0;

  /** With room for so many runs; more make it grow. */
  constructor(capacity = FIRST_CAPACITY) {
    this.numbers = new Float64Array(Math.max(capacity, 1) * NUMBERS_OF_RUN);
  }

  /** Adds a run that begins with or behind the last one; runs that touch or overlap become one. */
  add(first: number, count: number): void {
    if (count <= 0) return;
    if (this.length > 0 && first <= this.end) {
      const at = (this.length - 1) * NUMBERS_OF_RUN;
      const before = this.numbers[at] ?? 0;
      this.numbers[at + 1] = Math.max(this.end, first + count) - before;
      return;
    }
    const at = this.length * NUMBERS_OF_RUN;
    if (at === this.numbers.length) {
      const larger = new Float64Array(2 * at);
      larger.set(this.numbers);
      this.numbers = larger;
    }
    this.numbers[at] = first;
    this.numbers[at + 1] = count;
    this.length += 1;
  }

  /** The block behind the last run. */
  get end(): number {
    return this.length === 0 ? 0 : this.endOf(this.length - 1);
  }

  firstOf(index: number): number {
    return this.numbers[index * NUMBERS_OF_RUN] ?? 0;
  }

  countOf(index: number): number {
    return this.numbers[index * NUMBERS_OF_RUN + 1] ?? 0;
  }

  endOf(index: number): number {
    return this.firstOf(index) + this.countOf(index);
  }

  /** A run; from the end when the index is negative. */
  at(index: number): BlockRun | undefined {
    const i = index < 0 ? this.length + index : index;
    if (i < 0 || i >= this.length) return undefined;
    return { first: this.firstOf(i), count: this.countOf(i) };
  }

  *slice(from: number, to: number): Generator<BlockRun> {
    for (let i = from; i < Math.min(to, this.length); i += 1) {
      yield { first: this.firstOf(i), count: this.countOf(i) };
    }
  }

  [Symbol.iterator](): Generator<BlockRun> {
    return this.slice(0, this.length);
  }
}
