// SPDX-License-Identifier: Apache-2.0
// A backup of a set as a volume: read through its whole chain.
import type { ChangeMap } from '../../../agent/src/changes/change-map.js';
import type { ManifestCookie } from '../backup/manifest.js';
import type { BackupContent, VolumeReader } from '../backup/target.js';
import { skippedFromManifest } from '../backup/skipped.js';
import { CliError, messageOf } from '../errors.js';
import { OpenImage } from '../qemu/open-image.js';
import { checkChain } from './check.js';
import type { SetManifest } from './manifest.js';
import type { BackupSet } from './set.js';

export class SetContent implements BackupContent {
  readonly isCheckedWhileRead = false;

  constructor(
    private readonly set: BackupSet,
    private readonly backup: SetManifest,
  ) {}

  get name(): string {
    return this.set.nameOf(this.backup.id);
  }

  get sizeBytes(): number {
    return this.backup.volume_bytes;
  }

  get cookie(): ManifestCookie {
    return this.backup.cookie;
  }

  get skipped(): ChangeMap {
    return skippedFromManifest(this.backup.skipped, this.backup.volume_bytes);
  }

  async check(signal: AbortSignal): Promise<void> {
    await checkChain(this.set, this.backup, signal);
  }

  async open(): Promise<VolumeReader> {
    await this.set.soundChainOf(this.backup);
    const image = await OpenImage.open(this.set.paths(this.backup.id).image, { readOnly: true });
    return {
      read: async (buffer, position) => {
        try {
          await image.client.read(position, buffer);
        } catch (error) {
          throw new CliError(`${this.name} cannot be read: ${messageOf(error)}`);
        }
      },
      // A MiB is made of several backups, each of which has a checksum for its part only.
      digestOf: () => undefined,
      close: () => image.abandon(),
    };
  }
}
