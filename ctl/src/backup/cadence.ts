// SPDX-License-Identifier: Apache-2.0
// When a transfer puts its progress on disk.

/** So much, or what comes in so much time, is sent again at most. */
const STEP_BYTES = 256 << 20;
const STEP_MS = 20_000;
/** Of the time of a transfer, the part that this may take: one in so many. */
const COST_LIMIT = 20;

/** Tests make it more often than any real transfer would. */
const TEST_STEP_BYTES = Number(process.env['ELIO_TEST_PROGRESS_BYTES'] ?? NaN);

export class Cadence {
  private bytes = 0;
  private endMs = performance.now();
  private costMs = 0;

  /** So many bytes have been written since the last call: is it time? */
  isDue(bytes: number): boolean {
    this.bytes += bytes;
    if (this.bytes >= TEST_STEP_BYTES) return true;
    const elapsedMs = performance.now() - this.endMs;
    if (this.bytes < STEP_BYTES && elapsedMs < STEP_MS) return false;
    return elapsedMs >= COST_LIMIT * this.costMs;
  }

  /** It was done, and took so long. */
  done(costMs: number): void {
    this.bytes = 0;
    this.costMs = costMs;
    this.endMs = performance.now();
  }
}
