// SPDX-License-Identifier: Apache-2.0
// A backup set: a directory with a chain of qcow2 files, each with its manifest and its checksums.
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BackupLock } from '../backup/lock.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { readHeader } from '../qemu/qcow2.js';
import { exists } from '../files.js';
import { readFoldJournal } from './fold.js';
import { parseSetManifest, type SetManifest } from './manifest.js';
import { BackupPaths, MANIFEST_SUFFIX, parseName } from './names.js';
import { hasLeftovers, hasUnfinishedMerge, needsRecovery, recover } from './recovery.js';
import { storageError } from './storage-error.js';

/** A manifest that cannot be used. */
export interface UnreadableBackup {
  id: number;
  why: string;
}

/** Who only reads can do without it, unless it concerns files of complete backups: a full or read-only disk keeps nobody away. */
async function recoverForReading(directory: string, lock: BackupLock): Promise<void> {
  if (!(await needsRecovery(directory))) return;
  try {
    await lock.exclusively(() => recover(directory));
  } catch (error) {
    if (lock.isLost || (await hasUnfinishedMerge(directory))) throw error;
  }
}

export class BackupSet {
  private all: SetManifest[] = [];
  private bad: UnreadableBackup[] = [];
  private highestId = 0;
  /** Backups that an unfinished merge is going to make disappear. */
  private going = new Set<number>();

  private constructor(
    readonly directory: string,
    private readonly lock: BackupLock | undefined,
  ) {}

  /**
   * Locks the set in a directory, and finishes or throws away what an interrupted run has left, unless its transfer can go on.
   * Rejects with CliError: not found, busy, not allowed.
   */
  static async open(directory: string, use: 'write' | 'read'): Promise<BackupSet> {
    try {
      const mode = use === 'write' ? 'exclusive' : 'shared';
      const lock = await BackupLock.acquire(directory, mode, join(directory, '.lock'));
      const set = new BackupSet(directory, lock);
      try {
        if (use === 'write') await recover(directory);
        else await recoverForReading(directory, lock);
        await set.load();
        return set;
      } catch (error) {
        await lock.release();
        throw error;
      }
    } catch (error) {
      throw storageError(error, directory);
    }
  }

  /** Looks at a set without a lock and changes nothing; `unfinished`: an interrupted or running one has left something. */
  static async glance(directory: string): Promise<{ set: BackupSet; unfinished: boolean }> {
    const set = new BackupSet(directory, undefined);
    try {
      await set.load();
      return { set, unfinished: await hasLeftovers(directory) };
    } catch (error) {
      throw storageError(error, directory);
    }
  }

  /** The set of a directory that is still to be made. */
  static absent(directory: string): BackupSet {
    return new BackupSet(directory, undefined);
  }

  async close(): Promise<void> {
    await this.lock?.release();
  }

  /** Reads the manifests again. */
  async load(): Promise<void> {
    const manifests: SetManifest[] = [];
    this.bad = [];
    this.highestId = 0;
    this.going = new Set();
    for (const name of await readdir(this.directory)) {
      const parsed = parseName(name);
      if (!parsed) continue;
      this.highestId = Math.max(this.highestId, parsed.id);
      try {
        if (parsed.suffix === MANIFEST_SUFFIX) manifests.push(await this.read(name, parsed.id));
        if (parsed.suffix === '.merge') {
          const { drop } = await readFoldJournal(this.directory, parsed.id);
          for (const id of drop) this.going.add(id);
        }
      } catch (error) {
        this.bad.push({ id: parsed.id, why: messageOf(error) });
      }
    }
    this.all = manifests.filter(({ id }) => !this.going.has(id)).sort((a, b) => a.id - b.id);
  }

  private async read(name: string, id: number): Promise<SetManifest> {
    const manifest = parseSetManifest(await readFile(join(this.directory, name), 'utf8'));
    const paths = new BackupPaths(this.directory, id);
    const { file, checksums } = manifest;
    if (manifest.id !== id || file !== paths.imageName || checksums.file !== paths.sumsName) {
      throw new Error('it is the manifest of another backup');
    }
    return manifest;
  }

  /** The complete backups, the oldest first. Their numbers say which is older; times may jump. */
  get backups(): readonly SetManifest[] {
    return this.all;
  }

  get unreadable(): readonly UnreadableBackup[] {
    return this.bad;
  }

  get newest(): SetManifest | undefined {
    return this.all.at(-1);
  }

  /** A number that no backup of the set has, or had. */
  get nextId(): number {
    return this.highestId + 1;
  }

  paths(id: number): BackupPaths {
    return new BackupPaths(this.directory, id);
  }

  /** The backup with that number, or the newest one; rejects when there is none. */
  require(id: number | undefined): SetManifest {
    const found = id === undefined ? this.newest : this.all.find((one) => one.id === id);
    if (found) return found;
    const bad = this.bad.find((one) => one.id === id);
    if (bad) {
      throw new CliError(
        `${this.directory}: the manifest of backup ${String(bad.id)} cannot be read (${bad.why})`,
        EXIT.state,
      );
    }
    throw new CliError(
      id === undefined
        ? `${this.directory} holds no complete backup`
        : `${this.directory} holds no backup ${String(id)}: see elioctl backups list`,
      EXIT.notFound,
    );
  }

  /** The backups that change this one. */
  childrenOf(id: number): SetManifest[] {
    return this.all.filter(({ parent }) => parent === id);
  }

  /** What a backup is made of, the full one first. Rejects with CliError when a manifest is missing. */
  chainOf(backup: SetManifest): SetManifest[] {
    const chain = [backup];
    for (let { parent } = backup; parent !== null;) {
      const next = this.all.find(({ id }) => id === parent);
      if (!next || chain.includes(next)) {
        throw new CliError(
          `${this.directory}: the chain of backup ${String(backup.id)} is broken: ${basename(this.paths(parent).manifest)} is missing or cannot be read`,
          EXIT.state,
        );
      }
      chain.unshift(next);
      ({ parent } = next);
    }
    return chain;
  }

  /** As chainOf; rejects also when a file is missing or is, as far as a look tells, not the one that was written. */
  async soundChainOf(backup: SetManifest): Promise<SetManifest[]> {
    const chain = this.chainOf(backup);
    for (const one of chain) {
      const [problem] = await this.lookAt(one);
      if (problem === undefined) continue;
      throw new CliError(
        `${this.directory}: the chain of backup ${String(backup.id)} is broken: ${problem}`,
        EXIT.state,
      );
    }
    return chain;
  }

  /** What a look at the files of a backup finds wrong with them. */
  async lookAt(backup: SetManifest): Promise<string[]> {
    const paths = this.paths(backup.id);
    const problems: string[] = [];
    if (!(await exists(paths.sums))) problems.push(`${paths.sumsName} is missing`);
    if (!(await exists(paths.image))) return [...problems, `${paths.imageName} is missing`];
    const { size } = await stat(paths.image);
    if (size !== backup.file_bytes) {
      const sizes = `${String(size)} bytes instead of ${String(backup.file_bytes)}`;
      problems.push(`${paths.imageName} is altered: it has ${sizes}`);
    }
    try {
      const header = await readHeader(paths.image);
      const backing = backup.parent === null ? undefined : this.paths(backup.parent).imageName;
      if (header.sizeBytes !== backup.volume_bytes) {
        problems.push(`${paths.imageName} is altered: it is a volume of another size`);
      }
      if (header.backingFile !== backing) {
        const names = `${header.backingFile ?? 'none'} instead of ${backing ?? 'none'}`;
        problems.push(`${paths.imageName} is altered: its backing file is ${names}`);
      }
    } catch (error) {
      problems.push(`${paths.imageName} is altered: ${messageOf(error)}`);
    }
    return problems;
  }

  /** A backup as messages name it. */
  nameOf(id: number): string {
    return `${this.directory}@${String(id)}`;
  }

  /** Files of images and checksums without a manifest, which no run has left: somebody has taken that away. */
  async orphans(): Promise<string[]> {
    const known = new Set([...this.all, ...this.bad].map(({ id }) => id));
    return (await readdir(this.directory)).filter((name) => {
      const parsed = parseName(name);
      const isPart = parsed?.suffix === '.qcow2' || parsed?.suffix === '.sums';
      return isPart && !known.has(parsed.id) && !this.going.has(parsed.id);
    });
  }
}
