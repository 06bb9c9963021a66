// SPDX-License-Identifier: Apache-2.0
// A raw backup as a volume.
import { open } from 'node:fs/promises';
import type { ChangeMap } from '../../../agent/src/changes/change-map.js';
import { readFully } from './file-io.js';
import type { Manifest, ManifestCookie } from './manifest.js';
import type { BackupContent, VolumeReader } from './target.js';
import { checkDigests } from './verify.js';

export class FileContent implements BackupContent {
  readonly isCheckedWhileRead = true;

  constructor(
    readonly name: string,
    private readonly manifest: Manifest,
  ) {}

  get sizeBytes(): number {
    return this.manifest.sizeBytes;
  }

  get cookie(): ManifestCookie {
    return this.manifest.cookie;
  }

  get skipped(): ChangeMap {
    return this.manifest.skipped;
  }

  check(signal: AbortSignal): Promise<void> {
    return checkDigests(this.name, this.manifest, signal);
  }

  async open(): Promise<VolumeReader> {
    const file = await open(this.name, 'r');
    return {
      read: (buffer, position) => readFully(file, buffer, position),
      digestOf: (index) => this.manifest.digests.get(index),
      close: () => file.close(),
    };
  }
}
