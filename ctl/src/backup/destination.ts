// SPDX-License-Identifier: Apache-2.0
// A backup on this machine. Its files: FILE, FILE.manifest, and while it is changed FILE.journal (an incremental) or
// FILE.partial and FILE.next (a full: the file and its manifest). At each moment the manifest is that of the file, or a
// complete journal or a FILE.next says how to get there. FILE.progress tells how far a journal or FILE.partial is that is not
// complete: a run that finds it goes on there, or throws both away. Who only reads leaves them.
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isErrnoException } from '../../../agent/src/errors.js';
import { syncDirectory, writeFileAtomically } from '../../../agent/src/os/atomic-file.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { exists } from '../files.js';
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';
import { ChunkDigests } from './digests.js';
import type { Blocks } from './blocks.js';
import { lengthOf } from './blocks.js';
import { readFully, writeBlocks } from './file-io.js';
import { FullWriter, type WrittenChunks } from './full-writer.js';
import {
  cutJournal,
  Journal,
  JournalWriter,
  type JournalHeader,
  type JournalPart,
} from './journal.js';
import { BackupLock } from './lock.js';
import { isSameOrigin, Manifest, type BackupOrigin, type ManifestCookie } from './manifest.js';
import {
  ProgressRecorder,
  readProgress,
  removeProgress,
  type Progress,
  type ProgressRecord,
  type Transfer,
} from './progress-record.js';
import { ChangeMap, blocksOf } from '../../../agent/src/changes/change-map.js';
import { Coverage, skippedFromManifest } from './skipped.js';
import { atStep } from './steps.js';
import { BrokenTransferError } from './stream.js';
import { cutPartial } from './unfinished-file.js';
import type { BackupBase, BackupContent, BackupTarget, WrittenBackup } from './target.js';
import { FileContent } from './file-content.js';

/** What was proven of an unfinished transfer. */
type TakenUp =
  | { of: 'file'; chunks: WrittenChunks; skipped: ChangeMap }
  | { of: 'journal'; part: JournalPart; coverage: Coverage };

/** A raw file as the destination of a backup. */
export class Destination implements BackupTarget {
  private readonly manifestPath: string;
  private readonly journalPath: string;
  private readonly partialPath: string;
  private readonly nextPath: string;
  private readonly progressPath: string;
  private record: ProgressRecord | undefined;
  private takenUp: TakenUp | undefined;
  private current: Manifest | undefined;
  /** Where the backup comes from whose manifest is there, also one on which nothing can be built. */
  private former: BackupOrigin | undefined;
  private why = 'this is the first backup to this file';

  private constructor(
    readonly path: string,
    private readonly lock: BackupLock | undefined,
    private readonly full: boolean,
  ) {
    this.manifestPath = `${path}.manifest`;
    this.journalPath = `${path}.journal`;
    this.partialPath = `${path}.partial`;
    this.nextPath = `${path}.next`;
    this.progressPath = `${path}.progress`;
  }

  /**
   * Locks a backup for writing or reading, and finishes or throws away what an interrupted run left, unless it can go on. `full`: what
   * is written builds on nothing, whatever there is.
   */
  static async open(path: string, use: 'write' | 'read', full = false): Promise<Destination> {
    const lock = await BackupLock.acquire(path, use === 'write' ? 'exclusive' : 'shared');
    const destination = new Destination(path, lock, full);
    try {
      if (use === 'write') await destination.recover();
      else if (await destination.needsRecovery()) {
        await lock.exclusively(() => destination.recover());
      }
      await destination.load();
      return destination;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Looks at a backup without a lock and changes nothing; `unfinished`: an interrupted run has left something. */
  static async glance(
    path: string,
    full = false,
  ): Promise<{ destination: Destination; unfinished: boolean }> {
    const destination = new Destination(path, undefined, full);
    await destination.load();
    return { destination, unfinished: await destination.hasLeftovers() };
  }

  async close(): Promise<void> {
    await this.lock?.release();
  }

  /** The last committed backup; undefined: there is none. */
  get manifest(): Manifest | undefined {
    return this.current;
  }

  get whyNone(): string {
    return this.why;
  }

  get base(): BackupBase | undefined {
    return this.current?.differs === true ? undefined : this.current;
  }

  content(): BackupContent {
    return new FileContent(this.path, this.requireManifest());
  }

  /** The last committed backup; rejects with what is wrong when there is none. */
  requireManifest(): Manifest {
    if (this.current) return this.current;
    throw new CliError(
      `${this.path} is no backup that can be used: ${this.why}; its manifest is ${this.manifestPath}`,
    );
  }

  private async hasLeftovers(): Promise<boolean> {
    for (const path of [this.journalPath, this.partialPath, this.nextPath, this.progressPath]) {
      if (await exists(path)) return true;
    }
    return false;
  }

  /** Is there anything that recover() would not leave as it is? */
  private async needsRecovery(): Promise<boolean> {
    if (!(await this.hasLeftovers())) return false;
    if (await exists(this.nextPath)) return true;
    const journal = await Journal.open(this.journalPath);
    await journal?.close();
    return journal !== undefined || (await this.findUnfinished()) === undefined;
  }

  private async findUnfinished(): Promise<ProgressRecord | undefined> {
    const record = await readProgress(this.progressPath);
    if (!record) return undefined;
    const path = record.proof.of === 'journal' ? this.journalPath : this.partialPath;
    return (await exists(path)) ? record : undefined;
  }

  private async recover(): Promise<void> {
    if (await exists(this.nextPath)) await this.putFullInPlace();
    const journal = await Journal.open(this.journalPath);
    if (journal) {
      try {
        const manifest = await this.manifestFor(journal);
        if (manifest) await this.apply(journal, manifest);
      } finally {
        await journal.close();
      }
      await rm(this.journalPath, { force: true });
    }
    if (!(await this.findUnfinished())) await this.discard();
  }

  /** That of the backup which a complete journal changes; undefined: it is not there. Rejects when nobody can tell. */
  private async manifestFor({ header }: Journal): Promise<Manifest | undefined> {
    let manifest: Manifest | undefined;
    try {
      manifest = await this.readManifest();
    } catch (error) {
      // The file may be half of what the journal makes of it, and only the journal has the rest.
      throw new CliError(
        `${this.manifestPath} cannot be read (${messageOf(error)}), without which ${this.journalPath} cannot be applied: put that right and run the command again; if it is lost, delete the journal and take a full backup`,
      );
    }
    return manifest?.digests.tree() === header.base_sha256_tree ? manifest : undefined;
  }

  get unfinished(): ProgressRecord | undefined {
    return this.record;
  }

  async discard(): Promise<void> {
    this.record = undefined;
    this.takenUp = undefined;
    await removeProgress(this.progressPath);
    await rm(this.partialPath, { force: true });
    await rm(this.journalPath, { force: true });
  }

  /** After a failed write. */
  private async keepOrDiscard(error: unknown): Promise<void> {
    this.takenUp = undefined;
    this.record = error instanceof BrokenTransferError ? await this.findUnfinished() : undefined;
    if (!this.record) await this.discard();
  }

  async takeUp(signal: AbortSignal): Promise<void> {
    if (!this.record) throw new CliError(`${this.path}: there is no unfinished transfer`);
    const { proof, offset_bytes: offset, transfer } = this.record;
    const { size_bytes: size } = transfer;
    if (proof.of === 'journal') {
      const { header, ...taken } = await cutJournal(this.journalPath, size, proof);
      if (header.base_sha256_tree !== this.requireManifest().digests.tree()) {
        throw new CliError(`${this.journalPath} changes another backup than ${this.path}`);
      }
      this.takenUp = { of: 'journal', ...taken };
    } else if (proof.of === 'file') {
      const chunks = await cutPartial(this.partialPath, size, offset, proof.sha256_tree, signal);
      const skipped = skippedFromManifest(proof.skipped, size);
      this.takenUp = { of: 'file', chunks, skipped };
    } else {
      throw new CliError(`${this.progressPath} is that of a set`);
    }
  }

  private recorder(transfer: Transfer | undefined): ProgressRecorder | undefined {
    return transfer && new ProgressRecorder(this.progressPath, transfer);
  }

  private async readManifest(): Promise<Manifest | undefined> {
    let text: string;
    try {
      text = await readFile(this.manifestPath, 'utf8');
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT') return undefined;
      throw error;
    }
    return Manifest.parse(text);
  }

  private async load(): Promise<void> {
    this.record = await this.findUnfinished();
    const file = await stat(this.path).catch(() => undefined);
    let manifest: Manifest | undefined;
    try {
      manifest = await this.readManifest();
    } catch (error) {
      this.why = `its manifest cannot be read (${messageOf(error)})`;
      return;
    }
    if (!manifest) {
      if (file) this.why = 'it has no manifest';
      return;
    }
    this.former = manifest.origin;
    if (!file) this.why = 'there is a manifest, but the file is missing';
    else if (file.size !== manifest.sizeBytes)
      this.why = 'the file has not the size in its manifest';
    else this.current = manifest;
    if (this.current?.differs === true) this.why = 'what is there is not what its image showed';
  }

  /** What it was before is overwritten. */
  async withdraw(): Promise<string> {
    const { origin, created, cookie, digests, skipped } = this.requireManifest();
    const manifest = new Manifest(origin, created, cookie, digests, skipped, true);
    await writeFileAtomically(this.manifestPath, manifest.serialize());
    await this.load();
    return 'it stays as it is, and the next backup is a full one';
  }

  /** Rejects when the file is somebody else's, or a backup of another device that would be lost. */
  async checkMayWrite(now: BackupOrigin): Promise<void> {
    const { former } = this;
    if (former && !this.full && !isSameOrigin(former, now)) {
      throw new CliError(
        `${this.path} is a backup of ${former.blockDevice} on ${former.host}, and this is ${now.blockDevice} on ${now.host}: give another file, or replace that backup with --full`,
        EXIT.state,
      );
    }
    if (former || !(await exists(this.path))) return;
    if (!(await exists(this.manifestPath))) {
      throw new CliError(
        `${this.path} exists and is no backup (it has no manifest): give another file, or delete it`,
        EXIT.usage,
      );
    }
    if (this.full) return;
    throw new CliError(
      `${this.path}: nobody can tell of which device it is a backup, for ${this.why}; put the manifest back, or replace that backup with --full`,
      EXIT.state,
    );
  }

  /** Streams a whole volume into place; until all of it is there, the former backup stays what it was. */
  async writeFull(
    blocks: AsyncIterable<Blocks>,
    sizeBytes: number,
    origin: BackupOrigin,
    cookie: ManifestCookie,
    transfer?: Transfer,
  ): Promise<WrittenBackup> {
    const former = this.takenUp?.of === 'file' ? this.takenUp : undefined;
    if (!former) await this.discard();
    const recorder = this.recorder(transfer);
    const file = await open(this.partialPath, former ? 'r+' : 'w', 0o600);
    const none = ChangeMap.empty(blocksOf(BigInt(sizeBytes)));
    const coverage = Coverage.after(sizeBytes, none, former?.skipped ?? none);
    let digests: ChunkDigests;
    try {
      if (!former) await file.truncate(sizeBytes);
      const writer = new FullWriter(file, sizeBytes, former?.chunks);
      const sync = async (): Promise<Progress> => {
        const { offsetBytes: offset, sha256Tree } = writer.written;
        await file.sync();
        const skipped = coverage.skippedBefore(offset);
        return { offset_bytes: offset, proof: { of: 'file', sha256_tree: sha256Tree, skipped } };
      };
      for await (const piece of coverage.watch(blocks)) {
        await writer.write(piece);
        await recorder?.passed(lengthOf(piece), sync);
      }
      digests = writer.finish();
      await file.sync();
    } catch (error) {
      await file.close();
      await this.keepOrDiscard(error);
      throw error;
    }
    await file.close();
    this.record = undefined;
    const created = new Date().toISOString();
    const manifest = new Manifest(origin, created, cookie, digests, coverage.over(undefined));
    await writeFileAtomically(this.nextPath, manifest.serialize());
    atStep('full-complete');
    await this.putFullInPlace();
    await this.discard();
    this.current = manifest;
    return this.written();
  }

  private written(): WrittenBackup {
    return { path: this.path, id: null, parent: null };
  }

  /** FILE.next is complete: after this, however often it is begun, file and manifest are the new ones. */
  private async putFullInPlace(): Promise<void> {
    if (await exists(this.partialPath)) {
      await rename(this.partialPath, this.path);
      await syncDirectory(dirname(this.path));
    }
    atStep('full-in-place');
    await rename(this.nextPath, this.manifestPath);
    await syncDirectory(dirname(this.path));
  }

  /** Puts changes into a journal, and then into the backup that is there. */
  async writeIncrement(
    blocks: AsyncIterable<Blocks>,
    origin: BackupOrigin,
    cookie: ManifestCookie,
    transfer?: Transfer,
  ): Promise<WrittenBackup> {
    const base = this.requireManifest();
    const former = this.takenUp?.of === 'journal' ? this.takenUp : undefined;
    if (!former) await this.discard();
    const recorder = this.recorder(transfer);
    const header: JournalHeader = {
      base_sha256_tree: base.digests.tree(),
      cookie,
      host: origin.host,
      machine_id: origin.machineId,
      block_device: origin.blockDevice,
      stable_id: origin.stableId,
      created: new Date().toISOString(),
    };
    const writer = former
      ? await JournalWriter.continue(this.journalPath, former.part)
      : await JournalWriter.create(this.journalPath, header);
    const coverage = former?.coverage ?? new Coverage(base.sizeBytes);
    try {
      for await (const piece of coverage.watch(blocks)) {
        await writer.write(piece);
        await recorder?.passed(lengthOf(piece), async () => ({
          offset_bytes: piece.offset + lengthOf(piece),
          proof: { of: 'journal', ...(await writer.sync()) },
        }));
      }
      await this.checkKept(base, coverage);
    } catch (error) {
      await writer.close();
      await this.keepOrDiscard(error);
      throw error;
    }
    await writer.commit();
    this.record = undefined;
    await syncDirectory(dirname(this.path));
    atStep('journal-complete');
    const journal = await Journal.open(this.journalPath);
    if (!journal) throw new CliError(`${this.journalPath} cannot be read back`);
    this.current = await this.apply(journal, base);
    await journal.close();
    await this.discard();
    return this.written();
  }

  /**
   * Each MiB of which the increment leaves a part gets a new checksum, of whatever is there. Rejects when it is not what it was: once
   * the journal is complete nobody can tell, for the file may be half new.
   */
  private async checkKept({ digests }: Manifest, coverage: Coverage): Promise<void> {
    const file = await open(this.path, 'r');
    const buffer = Buffer.alloc(CHUNK_SIZE);
    try {
      for (const index of coverage.partlySent()) {
        const chunk = buffer.subarray(0, digests.lengthOf(index));
        const offset = index * CHUNK_SIZE;
        await readFully(file, chunk, offset);
        if (digests.matches(index, chunk)) continue;
        throw new CliError(
          `${this.path} is damaged at byte ${String(offset)}: its manifest says otherwise, and an incremental backup would keep what is there; take a full one with --full`,
        );
      }
    } finally {
      await file.close();
    }
  }

  /** May be repeated: it writes the same each time. */
  private async apply(journal: Journal, base: Manifest): Promise<Manifest> {
    const { digests } = base;
    const file = await open(this.path, 'r+');
    const touched = new Set<number>();
    const coverage = new Coverage(digests.sizeBytes);
    try {
      let done = 0;
      for await (const blocks of coverage.watch(journal.records())) {
        const end = blocks.offset + lengthOf(blocks);
        if (end > digests.sizeBytes) throw new CliError('the journal reaches beyond the backup');
        if (blocks.kind === 'skipped') continue;
        await writeBlocks(file, blocks);
        for (let i = Math.floor(blocks.offset / CHUNK_SIZE); i * CHUNK_SIZE < end; i += 1) {
          touched.add(i);
        }
        done += blocks.kind === 'data' ? blocks.data.length : 0;
        if (done * 2 >= journal.recordBytes) atStep('half-applied');
      }
      for (const index of touched) {
        const chunk = Buffer.alloc(digests.lengthOf(index));
        await readFully(file, chunk, index * CHUNK_SIZE);
        digests.set(index, chunkDigest(chunk));
      }
      await file.sync();
    } finally {
      await file.close();
    }
    atStep('applied');
    const { host, machine_id: machineId, stable_id: stableId } = journal.header;
    const { block_device: blockDevice, created, cookie } = journal.header;
    const origin = { host, machineId, blockDevice, stableId };
    const skipped = coverage.over(base.skipped);
    const manifest = new Manifest(origin, created, cookie, digests, skipped);
    await writeFileAtomically(this.manifestPath, manifest.serialize());
    atStep('manifest-in-place');
    return manifest;
  }
}
