// SPDX-License-Identifier: Apache-2.0
// A backup that a person names as a source: FILE, DIRECTORY or DIRECTORY@ID.
import { Destination } from '../backup/destination.js';
import type { BackupContent } from '../backup/target.js';
import { setPlace } from './names.js';
import { SetContent } from './set-content.js';
import { BackupSet } from './set.js';

export interface OpenBackup {
  content: BackupContent;
  close: () => Promise<void>;
}

/** Locks a backup for reading. Rejects with CliError when it is not there, or in use. */
export async function openBackup(source: string): Promise<OpenBackup> {
  const place = setPlace(source);
  const held = place
    ? await BackupSet.open(place.directory, 'read')
    : await Destination.open(source, 'read');
  try {
    const content =
      held instanceof BackupSet ? new SetContent(held, held.require(place?.id)) : held.content();
    return { content, close: () => held.close() };
  } catch (error) {
    await held.close();
    throw error;
  }
}

/** Looks at a backup without a lock; `unfinished`: an interrupted run has left something. */
export async function glanceAtBackup(
  source: string,
): Promise<{ found: BackupContent; unfinished: boolean }> {
  const place = setPlace(source);
  if (place) {
    const { set, unfinished } = await BackupSet.glance(place.directory);
    return { found: new SetContent(set, set.require(place.id)), unfinished };
  }
  const { destination, unfinished } = await Destination.glance(source);
  return { found: destination.content(), unfinished };
}
