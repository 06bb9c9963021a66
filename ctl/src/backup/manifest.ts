// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import type { ChangeMap } from '../../../agent/src/changes/change-map.js';
import { ChunkDigests } from './digests.js';
import { skippedFromManifest, skippedSchema, skippedToManifest } from './skipped.js';

const HEX_32 = /^[0-9a-f]{32}$/;
const HEX_64 = /^[0-9a-f]{64}$/;

/** A cookie in the files of a backup. */
export const cookieSchema = z.strictObject({
  uuid: z.string().regex(HEX_32),
  seq_id: z.int().positive(),
  nonce: z.string().regex(/^(?:[0-9a-f]{32})?$/),
});

const manifestSchema = z.strictObject({
  format: z.literal(1),
  /** Where it came from. */
  host: z.string(),
  machine_id: z.string().default(''),
  block_device: z.string(),
  stable_id: z.string().default(''),
  /** When: for people. */
  created: z.string(),
  cookie: cookieSchema,
  size_bytes: z.int().positive(),
  sha256_tree: z.string().regex(HEX_64),
  /** Digests of each MiB, concatenated, in base64. */
  chunk_sha256: z.string(),
  /** Blocks whose content means nothing: the filesystem did not use them. */
  skipped: skippedSchema.default([]),
  /** The image was found to be another when the two were compared. */
  differs: z.literal(true).optional(),
});

export type ManifestCookie = z.infer<typeof cookieSchema>;

export function cookieToManifest(cookie: Cookie): ManifestCookie {
  return { uuid: cookie.uuid, seq_id: Number(cookie.seqId), nonce: cookie.nonce };
}

export function cookieFromManifest(cookie: ManifestCookie): Cookie {
  return { uuid: cookie.uuid, seqId: BigInt(cookie.seq_id), nonce: cookie.nonce };
}

/** Null: there is none. */
export function isSameInstant(a: ManifestCookie | null, b: ManifestCookie | null): boolean {
  if (!a || !b) return a === b;
  return a.uuid === b.uuid && a.seq_id === b.seq_id && a.nonce === b.nonce;
}

/** Where a backup comes from. What is not known is empty. */
export interface BackupOrigin {
  host: string;
  machineId: string;
  blockDevice: string;
  stableId: string;
}

/** Are they one and the same? A host may be renamed, and a device have another path after a reboot. */
export function isSameOrigin(former: BackupOrigin, now: BackupOrigin): boolean {
  const known = former.machineId !== '' && now.machineId !== '';
  const sameHost = known ? former.machineId === now.machineId : former.host === now.host;
  const named = former.stableId !== '' && now.stableId !== '';
  const sameDevice = named
    ? former.stableId === now.stableId
    : former.blockDevice === now.blockDevice;
  return sameHost && sameDevice;
}

/** What a backup file holds: which snapshot, and the checksums of its content. */
export class Manifest {
  constructor(
    readonly origin: BackupOrigin,
    readonly created: string,
    readonly cookie: ManifestCookie,
    readonly digests: ChunkDigests,
    readonly skipped: ChangeMap,
    /** The image was found to be another: nothing may be built on this. */
    readonly differs = false,
  ) {}

  get sizeBytes(): number {
    return this.digests.sizeBytes;
  }

  /** Throws when the text is not a manifest, or one that contradicts itself. */
  static parse(text: string): Manifest {
    const m = manifestSchema.parse(JSON.parse(text));
    const digests = ChunkDigests.parse(m.chunk_sha256, m.size_bytes);
    if (digests?.tree() !== m.sha256_tree) throw new Error('its checksums contradict each other');
    const { host, machine_id: machineId, block_device: blockDevice, stable_id: stableId } = m;
    return new Manifest(
      { host, machineId, blockDevice, stableId },
      m.created,
      m.cookie,
      digests,
      skippedFromManifest(m.skipped, m.size_bytes),
      m.differs,
    );
  }

  serialize(): string {
    const content: z.infer<typeof manifestSchema> = {
      format: 1,
      host: this.origin.host,
      machine_id: this.origin.machineId,
      block_device: this.origin.blockDevice,
      stable_id: this.origin.stableId,
      created: this.created,
      cookie: this.cookie,
      size_bytes: this.sizeBytes,
      sha256_tree: this.digests.tree(),
      chunk_sha256: this.digests.toString(),
      skipped: skippedToManifest(this.skipped),
      ...(this.differs && { differs: true }),
    };
    return `${JSON.stringify(content, null, 2)}\n`;
  }
}
