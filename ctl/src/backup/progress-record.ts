// SPDX-License-Identifier: Apache-2.0
// How far a transfer has come, kept beside its unfinished files, so that a run that is killed need not begin again.
//
// A record is replaced as a whole, and only after all that it tells of has been put on disk. What the files hold behind it is
// worth nothing: the next run cuts it off. What they hold before it is not believed either: the record has checksums of that,
// which stem from the stream and not from the disk, and the next run compares the files with them before it goes on. Hashes that
// had been begun are then begun anew over what was proven to be the same bytes. So neither a power cut that lost a part of the
// files nor damage done to them meanwhile can become a backup that looks whole.
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileAtomically } from '../../../agent/src/os/atomic-file.js';
import { Cadence } from './cadence.js';
import { cookieSchema } from './manifest.js';
import { skippedSchema } from './skipped.js';
import { atStep } from './steps.js';

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);

const transferSchema = z.strictObject({
  /** The snapshot that is transferred. */
  cookie: cookieSchema,
  size_bytes: z.int().positive(),
  type: z.enum(['full', 'incremental']),
  /** The backup that was there to build on; a full one may have been made in spite of it. */
  base: cookieSchema.nullable(),
  /** What the user asked for. */
  full: z.boolean(),
  all: z.boolean(),
});

/** What a transfer is of. */
export type Transfer = z.infer<typeof transferSchema>;

const progressSchema = z.strictObject({
  /** All blocks before this byte of the volume are in the files. */
  offset_bytes: z.int().nonnegative(),
  proof: z.discriminatedUnion('of', [
    /** FILE.partial: SHA-256 of the digests of all MiB before the offset, and what was skipped there. */
    z.strictObject({
      of: z.literal('file'),
      sha256_tree: sha256Schema,
      skipped: skippedSchema,
    }),
    /** FILE.journal: its length, and SHA-256 of that. */
    z.strictObject({
      of: z.literal('journal'),
      bytes: z.int().positive(),
      sha256: sha256Schema,
    }),
    /** An image of a set: how many records N.sums.partial has, and SHA-256 of that file. */
    z.strictObject({
      of: z.literal('layer'),
      chunks: z.int().nonnegative(),
      sha256: sha256Schema,
      skipped: skippedSchema,
      data_bytes: z.int().nonnegative(),
    }),
  ]),
});

/** How far it is, and how that is proven. */
export type Progress = z.infer<typeof progressSchema>;
type Proof = Progress['proof'];
export type FileProof = Extract<Proof, { of: 'file' }>;
export type JournalProof = Extract<Proof, { of: 'journal' }>;
export type LayerProof = Extract<Proof, { of: 'layer' }>;

const recordSchema = progressSchema.extend({ format: z.literal(1), transfer: transferSchema });

export type ProgressRecord = z.infer<typeof recordSchema>;

function checksum(line: string): string {
  return createHash('sha256').update(line).digest('hex');
}

/** Undefined when there is none, or none that can be used. */
export async function readProgress(path: string): Promise<ProgressRecord | undefined> {
  try {
    const [line = '', sum] = (await readFile(path, 'utf8')).split('\n');
    return checksum(line) === sum ? recordSchema.parse(JSON.parse(line)) : undefined;
  } catch {
    // Whatever is wrong with it: the transfer begins anew, as it would without one.
    return undefined;
  }
}

export async function removeProgress(path: string): Promise<void> {
  await rm(path, { force: true });
  await rm(`${path}.tmp`, { force: true });
}

/** Keeps the record of a transfer. */
export class ProgressRecorder {
  private readonly cadence = new Cadence();
  private recordedOffset = 0;

  constructor(
    private readonly path: string,
    private readonly transfer: Transfer,
  ) {}

  /**
   * So many bytes of the volume have been written. When it is time, `sync` puts on disk what there is and tells of it, and the
   * record is brought up to date.
   */
  async passed(bytes: number, sync: () => Promise<Progress>): Promise<void> {
    if (!this.cadence.isDue(bytes)) return;
    const startMs = performance.now();
    const progress = await sync();
    atStep('progress-synced');
    if (progress.offset_bytes > this.recordedOffset) {
      const record: ProgressRecord = { format: 1, transfer: this.transfer, ...progress };
      const line = JSON.stringify(record);
      await writeFileAtomically(this.path, `${line}\n${checksum(line)}\n`);
      this.recordedOffset = progress.offset_bytes;
      atStep('progress-recorded');
    }
    this.cadence.done(performance.now() - startMs);
  }
}
