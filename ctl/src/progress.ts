// SPDX-License-Identifier: Apache-2.0
import { Presets, SingleBar } from 'cli-progress';
import { formatBytes } from './output.js';

/** Says something beside the result, on stderr. */
export function note(message: string): void {
  process.stderr.write(`${message}\n`);
}

/** How far something is. */
export interface ProgressView {
  advance(bytes: number): void;
  stop(): void;
}

/** Begins to show how far something is. */
export type ShowProgress = (what: string, totalBytes: number) => ProgressView;

/** How far a stream is: a bar with rate and time left on a terminal, nothing elsewhere. */
export class Progress implements ProgressView {
  private readonly bar: SingleBar | undefined;
  private readonly startedMs = Date.now();
  private doneBytes = 0;

  constructor(
    what: string,
    private readonly totalBytes: number,
  ) {
    if (!process.stderr.isTTY) return;
    this.bar = new SingleBar(
      {
        format: `${what} {bar} {percentage} % | {done} of {all} | {rate}/s | {eta_formatted} left`,
        stream: process.stderr,
        clearOnComplete: true,
        hideCursor: true,
      },
      Presets.legacy,
    );
    this.bar.start(totalBytes, 0, this.payload());
  }

  private payload(): { done: string; all: string; rate: string } {
    const seconds = Math.max((Date.now() - this.startedMs) / 1000, 0.001);
    return {
      done: formatBytes(BigInt(this.doneBytes)),
      all: formatBytes(BigInt(this.totalBytes)),
      rate: formatBytes(BigInt(Math.round(this.doneBytes / seconds))),
    };
  }

  advance(bytes: number): void {
    this.doneBytes += bytes;
    this.bar?.update(this.doneBytes, this.payload());
  }

  stop(): void {
    this.bar?.stop();
  }
}

/** A bar of its own for what runs alone. */
export const progressBar: ShowProgress = (what, totalBytes) => new Progress(what, totalBytes);

/** How many hosts of a fleet have answered, or how many backups are made: a line on a terminal, nothing elsewhere. */
export class CountProgress {
  private readonly bar: SingleBar | undefined;

  constructor(total: number, noun = 'hosts') {
    if (!process.stderr.isTTY) return;
    this.bar = new SingleBar(
      {
        format: `{value} of {total} ${noun} | {duration_formatted}`,
        stream: process.stderr,
        clearOnComplete: true,
        hideCursor: true,
      },
      Presets.legacy,
    );
    this.bar.start(total, 0);
  }

  advance(): void {
    this.bar?.increment();
  }

  stop(): void {
    this.bar?.stop();
  }
}
