// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Lease } from '../../../proto/gen/elio/v1/types.js';
import { isErrnoException } from '../errors.js';
import { writeFileAtomically } from '../os/atomic-file.js';

/** So long after its end a snapshot whose image was open is looked at again. */
const RETRY_MS = 30_000;

const leasesSchema = z.record(
  z.string(),
  z.strictObject({ seqId: z.string(), seconds: z.int().positive() }),
);

/** The snapshot that a lease is of. */
export interface LeasedSnapshot {
  uuid: string;
  seqId: bigint;
}

interface Entry {
  seqId: bigint;
  seconds: number;
  deadlineMs: number;
  timer: NodeJS.Timeout;
  /** The end has been told already. */
  told: boolean;
}

/** What to do at the end of a lease; `first` is false when it is done again, because the image was open. Must not reject. */
export type EndOfLease = (
  snapshot: LeasedSnapshot,
  seconds: number,
  first: boolean,
) => Promise<void>;

/**
 * Leases of snapshots, one for each chain. Time is that of a clock that nobody sets. Durations are kept in a file; after a start
 * of the agent each lease begins anew, for nobody could renew it meanwhile.
 */
export class Leases {
  private readonly entries = new Map<string, Entry>();

  /** `onEnd` is called when a lease is over, and again and again until the lease is taken away. */
  constructor(
    private readonly path: string,
    private readonly onEnd: EndOfLease,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** Takes up the leases of the former run. */
  async load(): Promise<void> {
    let text: string;
    try {
      text = await readFile(this.path, 'utf8');
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT') return;
      throw error;
    }
    for (const [uuid, { seqId, seconds }] of Object.entries(leasesSchema.parse(JSON.parse(text))))
      this.begin(uuid, BigInt(seqId), seconds);
  }

  /** Gives a snapshot a lease; 0 seconds: it has none. */
  async grant({ uuid, seqId }: LeasedSnapshot, seconds: number): Promise<void> {
    this.drop(uuid);
    if (seconds > 0) this.begin(uuid, seqId, seconds);
    await this.save();
  }

  /** The snapshot is used: its lease begins anew. */
  renew({ uuid, seqId }: LeasedSnapshot): void {
    const entry = this.entries.get(uuid);
    if (entry?.seqId !== seqId) return;
    entry.deadlineMs = this.nowMs() + entry.seconds * 1000;
    entry.told = false;
  }

  /** The lease of a snapshot; undefined: none. */
  of({ uuid, seqId }: LeasedSnapshot): Lease | undefined {
    const entry = this.entries.get(uuid);
    if (entry?.seqId !== seqId) return undefined;
    const left = Math.max(0, entry.deadlineMs - this.nowMs());
    return { durationSeconds: entry.seconds, remainingSeconds: Math.ceil(left / 1000) };
  }

  /** The chain is not in snapshot mode any more. */
  async end(uuid: string): Promise<void> {
    if (!this.entries.has(uuid)) return;
    this.drop(uuid);
    await this.save();
  }

  /** Forgets timers, not leases. */
  close(): void {
    for (const { timer } of this.entries.values()) clearTimeout(timer);
    this.entries.clear();
  }

  private begin(uuid: string, seqId: bigint, seconds: number): void {
    const deadlineMs = this.nowMs() + seconds * 1000;
    const timer = this.arm(uuid, seconds * 1000);
    this.entries.set(uuid, { seqId, seconds, deadlineMs, timer, told: false });
  }

  private arm(uuid: string, afterMs: number): NodeJS.Timeout {
    return setTimeout(() => void this.check(uuid), afterMs).unref();
  }

  // Renewals only move the deadline; the timer finds out.
  private async check(uuid: string): Promise<void> {
    const entry = this.entries.get(uuid);
    if (!entry) return;
    const left = entry.deadlineMs - this.nowMs();
    if (left > 0) {
      entry.timer = this.arm(uuid, left);
      return;
    }
    const first = !entry.told;
    entry.told = true;
    await this.onEnd({ uuid, seqId: entry.seqId }, entry.seconds, first);
    if (this.entries.get(uuid) === entry) entry.timer = this.arm(uuid, RETRY_MS);
  }

  private drop(uuid: string): void {
    clearTimeout(this.entries.get(uuid)?.timer);
    this.entries.delete(uuid);
  }

  private async save(): Promise<void> {
    const leases: z.infer<typeof leasesSchema> = {};
    for (const [uuid, { seqId, seconds }] of this.entries)
      leases[uuid] = { seqId: String(seqId), seconds };
    await writeFileAtomically(this.path, `${JSON.stringify(leases, null, 2)}\n`);
  }
}
