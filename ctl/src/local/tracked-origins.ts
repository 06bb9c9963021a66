// SPDX-License-Identifier: Apache-2.0
// Which devices of this machine are tracked: by the module's own list, for who works without an agent.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { isErrnoException } from '../../../agent/src/errors.js';
import type { TrackedOrigin } from '../../../agent/src/os/overwriting.js';

const INFO_PATH = '/proc/elastio-snap-info';

const infoSchema = z.object({
  devices: z.array(z.object({ minor: z.number(), block_device: z.string() })),
});

/** From the text of the list. */
export function parseTrackedOrigins(text: string): TrackedOrigin[] {
  const { devices } = infoSchema.parse(JSON.parse(text));
  return devices.map(({ minor, block_device: blockDevice }) => ({ minor, blockDevice }));
}

/** Without the module nothing is tracked. */
export async function readTrackedOrigins(): Promise<TrackedOrigin[]> {
  try {
    return parseTrackedOrigins(await readFile(INFO_PATH, 'utf8'));
  } catch (error) {
    if (isErrnoException(error) && error.code === 'ENOENT') return [];
    throw error;
  }
}
