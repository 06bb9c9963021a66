// SPDX-License-Identifier: Apache-2.0
// What the target of a restore holds already: the checksums of its chunks, which come while they are waited for.
import { CliError, messageOf } from '../errors.js';
import { ChunkDigests } from './digests.js';

export class TargetDigests {
  private readonly digests: ChunkDigests;
  private known = 0;
  private failure: Error | undefined;
  private wake: () => void = () => undefined;
  private progress: Promise<void> = Promise.resolve();

  /** Begins to take the digests of so many bytes, in their order. A failure shows in get(). */
  constructor(stream: AsyncIterable<Buffer>, sizeBytes: number) {
    this.digests = ChunkDigests.empty(sizeBytes);
    this.renew();
    void this.take(stream).catch((error: unknown) => {
      this.failure = error instanceof Error ? error : new CliError(messageOf(error));
      this.renew();
    });
  }

  /** Wakes who waits, and lets the next ones wait for the next event. */
  private renew(): void {
    this.wake();
    this.progress = new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private async take(stream: AsyncIterable<Buffer>): Promise<void> {
    const { count } = this.digests;
    for await (const digest of stream) {
      if (this.known < count) this.digests.set(this.known, digest);
      this.known += 1;
      this.renew();
    }
    if (this.known === count) return;
    const numbers = `${String(this.known)} of ${String(count)}`;
    throw new CliError(`the target's checksums are those of ${numbers} MiB: restore again`);
  }

  /** The digest of a chunk, when that has been read. */
  async get(index: number): Promise<Buffer> {
    for (;;) {
      if (index < this.known) return this.digests.get(index);
      if (this.failure) throw this.failure;
      await this.progress;
    }
  }
}
