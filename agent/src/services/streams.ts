// SPDX-License-Identifier: Apache-2.0

export interface Stream {
  minor: number;
  /** Where the client is, as gRPC knows it. */
  peer: string;
  startedMs: number;
}

/** The streams that read an image just now. */
export class Streams {
  private readonly active = new Set<Stream>();

  /** Returns the function that tells its end. */
  begin(minor: number, peer: string): () => void {
    const stream = { minor, peer, startedMs: performance.now() };
    this.active.add(stream);
    return () => {
      this.active.delete(stream);
    };
  }

  get count(): number {
    return this.active.size;
  }

  /** The streams of one image, in words. */
  describe(minor: number): string[] {
    const now = performance.now();
    return [...this.active]
      .filter((stream) => stream.minor === minor)
      .map(({ peer, startedMs }) => {
        const seconds = String(Math.round((now - startedMs) / 1000));
        return `read by a stream to ${peer} for ${seconds} s`;
      });
  }
}
