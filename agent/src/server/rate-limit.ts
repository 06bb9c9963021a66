// SPDX-License-Identifier: Apache-2.0

/** So many a second on average; who was quiet may do two seconds' worth at once. */
export class RateLimit {
  private tokens: number;
  private atMs: number;

  constructor(
    private readonly perSecond: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.tokens = 2 * perSecond;
    this.atMs = nowMs();
  }

  /** Is one more within the limit? It counts only if it is. */
  take(): boolean {
    const now = this.nowMs();
    const gained = ((now - this.atMs) / 1000) * this.perSecond;
    this.tokens = Math.min(2 * this.perSecond, this.tokens + gained);
    this.atMs = now;
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }
}
