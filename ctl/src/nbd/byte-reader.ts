// SPDX-License-Identifier: Apache-2.0
import type { Readable } from 'node:stream';

/** Takes exact numbers of bytes off a stream. One call at a time. */
export class ByteReader {
  private ended: Error | undefined;
  private wake: (() => void) | undefined;

  constructor(private readonly stream: Readable) {
    const end = (error?: Error): void => {
      this.ended ??= error ?? new Error('the connection was closed');
      this.wake?.();
    };
    stream.on('readable', () => this.wake?.());
    stream.once('end', end);
    stream.once('close', end);
    stream.on('error', end);
  }

  /** The next `length` bytes, at least one; rejects when the stream ends before. */
  async take(length: number): Promise<Buffer> {
    for (;;) {
      const data = this.stream.read(length) as Buffer | null;
      // At its end a stream gives what is left.
      if (data?.length === length) return data;
      if (this.ended) throw this.ended;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      this.wake = undefined;
    }
  }
}
