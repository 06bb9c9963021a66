// SPDX-License-Identifier: Apache-2.0
// How the files of a backup set are called. A backup N has N.qcow2 (what it holds), N.sums (the checksums of that) and N.json
// (its manifest); the number has six digits at least.
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';

const SUFFIX = {
  image: '.qcow2',
  sums: '.sums',
  manifest: '.json',
  /** Ends the names of files of a backup that is being made. */
  partial: '.partial',
  /** How far that is. */
  progress: '.progress',
  /** Ends the name of the manifest of a backup that is being deleted. */
  dropped: '.dropped',
  /** A backup that is being merged into its successor, whose number this is: the journal, and the new checksums. */
  merge: '.merge',
} as const;

/** The number as it stands in names. */
export function idText(id: number): string {
  return String(id).padStart(6, '0');
}

/** The paths of all files that a backup of a set can have. */
export class BackupPaths {
  constructor(
    private readonly directory: string,
    private readonly id: number,
  ) {}

  private path(...suffixes: string[]): string {
    return join(this.directory, idText(this.id) + suffixes.join(''));
  }

  get imageName(): string {
    return idText(this.id) + SUFFIX.image;
  }
  get sumsName(): string {
    return idText(this.id) + SUFFIX.sums;
  }
  get image(): string {
    return this.path(SUFFIX.image);
  }
  get sums(): string {
    return this.path(SUFFIX.sums);
  }
  get manifest(): string {
    return this.path(SUFFIX.manifest);
  }
  get partialImage(): string {
    return this.path(SUFFIX.image, SUFFIX.partial);
  }
  get partialSums(): string {
    return this.path(SUFFIX.sums, SUFFIX.partial);
  }
  /** Is there when the other two are complete. */
  get partialManifest(): string {
    return this.path(SUFFIX.manifest, SUFFIX.partial);
  }
  /** Is there when the transfer into the first two can go on. */
  get progress(): string {
    return this.path(SUFFIX.progress, SUFFIX.partial);
  }
  get dropped(): string {
    return this.path(SUFFIX.manifest, SUFFIX.dropped);
  }
  get mergeJournal(): string {
    return this.path(SUFFIX.merge);
  }
  get mergedSums(): string {
    return this.path(SUFFIX.sums, SUFFIX.merge);
  }
}

/** The number of the backup that a file of a set belongs to, and what it is; undefined: it is none of ours. */
export function parseName(name: string): { id: number; suffix: string } | undefined {
  const match = /^(\d{6,15})(\.(?:qcow2|sums|json|merge|progress)(?:\.[a-z.]+)?)$/.exec(name);
  if (!match) return undefined;
  const id = Number(match[1]);
  return idText(id) === match[1] ? { id, suffix: match[2] ?? '' } : undefined;
}

/** What names ends a manifest. */
export const MANIFEST_SUFFIX: string = SUFFIX.manifest;
export const PROGRESS_SUFFIX = `${SUFFIX.progress}${SUFFIX.partial}`;
export const IMAGE_SUFFIX: string = SUFFIX.image;

/** A backup of a set as a person names it: "DIRECTORY" is the newest one of it. */
export interface SetPlace {
  directory: string;
  id: number | undefined;
}

/** The number of a backup, with or without its zeros. */
export function parseId(text: string): number {
  const id = Number(text);
  if (!/^\d{1,15}$/.test(text) || id === 0) {
    throw new InvalidArgumentError(
      'the number of a backup is one that `elioctl backups list` shows.',
    );
  }
  return id;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** "DIRECTORY" or "DIRECTORY@ID" of a directory that exists; undefined: it is something else, such as a file. */
export function setPlace(text: string): SetPlace | undefined {
  if (isDirectory(text)) return { directory: resolve(text), id: undefined };
  const match = /^(.+)@(\d{1,15})$/.exec(text);
  const [, directory = '', id = ''] = match ?? [];
  if (!match || !isDirectory(directory)) return undefined;
  return { directory: resolve(directory), id: parseId(id) };
}

/** Does a destination of a backup mean a set? Such is a directory, or what is to become one. */
export function meansSet(text: string): boolean {
  return text.endsWith('/') || isDirectory(text);
}
