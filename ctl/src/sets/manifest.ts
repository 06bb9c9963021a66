// SPDX-License-Identifier: Apache-2.0
// The manifest of a backup in a set: docs/backup-manifest.schema.json is made of this schema.
import { z } from 'zod';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { cookieSchema } from '../backup/manifest.js';
import { skippedSchema } from '../backup/skipped.js';
import { BLOCK_SIZE } from './chunk-sums.js';
import type { BackupPaths } from './names.js';
import type { SumsSummary } from './sums-file.js';

const bytes = (): z.ZodInt => z.int().nonnegative();

const toolsSchema = z
  .strictObject({
    elioctl: z.string(),
    agent: z.string(),
    module: z.string(),
    kernel: z.string().describe("The host's kernel release."),
    qemu_img: z.string(),
  })
  .describe('Versions of what made the backup; empty: not known.');

const checksumsSchema = z
  .strictObject({
    file: z.string().describe('Name of the checksum file in the same directory.'),
    sha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .describe('SHA-256 of the checksum file.'),
    chunks: z.int().nonnegative().describe('Records of the checksum file.'),
    algorithm: z.literal('sha256'),
    chunk_bytes: z.literal(CHUNK_SIZE),
    block_bytes: z.literal(BLOCK_SIZE),
  })
  .describe(
    'Of each chunk of which the backup holds something: which blocks, and the digest of their content, one after the other.',
  );

export const setManifestSchema = z
  .strictObject({
    format: z.literal(1),
    id: z.int().positive().describe('Number of the backup in its set; never used again.'),
    parent: z
      .int()
      .positive()
      .nullable()
      .describe('The backup that this one changes; null: it is a full one.'),
    created: z.iso.datetime().describe('When it was complete, by the clock of the client.'),
    host: z.string().describe('Host name.'),
    machine_id: z.string().describe('Content of /etc/machine-id of the host; empty: it has none.'),
    block_device: z.string().describe('The origin as it was called then.'),
    stable_id: z.string().describe('What the origin is known by over reboots; empty: nothing.'),
    volume_bytes: z.int().positive().describe('Size of the origin.'),
    cookie: cookieSchema.describe('The snapshot that it is a backup of.'),
    file: z.string().describe('Name of the qcow2 file in the same directory.'),
    file_bytes: bytes().describe('Length of the qcow2 file; it may have holes.'),
    held_bytes: bytes().describe(
      'Bytes of the volume that the backup itself holds, zeros included.',
    ),
    data_bytes: bytes().describe('Bytes that are not in a hole, of those that were received.'),
    skipped_bytes: bytes().describe('Bytes of the blocks in "skipped".'),
    skipped: skippedSchema.describe(
      'Blocks that were left out because the filesystem did not use them, in this backup or in one that it builds on: ascending runs, each the number of its first block and how many blocks it has. What a restored volume holds there means nothing.',
    ),
    checksums: checksumsSchema,
    tools: toolsSchema,
  })
  .describe(
    'Manifest of a backup in a backup set of elioctl. Sizes are bytes; keys are only ever added.',
  );

export type SetManifest = z.infer<typeof setManifestSchema>;

/** What the manifest of a backup says of its checksum file. */
export function checksumsOf(paths: BackupPaths, sums: SumsSummary): SetManifest['checksums'] {
  return {
    file: paths.sumsName,
    ...sums,
    algorithm: 'sha256',
    chunk_bytes: CHUNK_SIZE,
    block_bytes: BLOCK_SIZE,
  };
}

/** Throws when the text is no manifest. */
export function parseSetManifest(text: string): SetManifest {
  return setManifestSchema.parse(JSON.parse(text));
}

export function serializeSetManifest(manifest: SetManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** The schema as JSON Schema (draft 2020-12). */
export function setManifestJsonSchema(): object {
  return z.toJSONSchema(setManifestSchema);
}
