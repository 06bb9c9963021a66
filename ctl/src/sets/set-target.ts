// SPDX-License-Identifier: Apache-2.0
// A set as the destination of a backup.
import { mkdir } from 'node:fs/promises';
import type { ChangeMap } from '../../../agent/src/changes/change-map.js';
import { writeFileAtomically } from '../../../agent/src/os/atomic-file.js';
import { AGENT_VERSION } from '../../../agent/src/version.js';
import type { Blocks } from '../backup/blocks.js';
import { isSameOrigin, type BackupOrigin, type ManifestCookie } from '../backup/manifest.js';
import { ProgressRecorder, type ProgressRecord, type Transfer } from '../backup/progress-record.js';
import { skippedFromManifest, skippedToManifest } from '../backup/skipped.js';
import { atStep } from '../backup/steps.js';
import { BrokenTransferError } from '../backup/stream.js';
import type {
  BackupBase,
  BackupContent,
  BackupTarget,
  OriginDetails,
  WrittenBackup,
} from '../backup/target.js';
import { CliError, EXIT } from '../errors.js';
import { qemuVersion, requireTools } from '../qemu/tools.js';
import { drop, putInPlace } from './commit.js';
import { exists } from '../files.js';
import { removeParts, writeLayer, type Layer } from './layer.js';
import { checksumsOf, serializeSetManifest, type SetManifest } from './manifest.js';
import { findUnfinished, type UnfinishedBackup } from './recovery.js';
import { SetContent } from './set-content.js';
import { BackupSet } from './set.js';
import { storageError } from './storage-error.js';
import { cutLayer, type LayerPart } from './unfinished-layer.js';

function originOf(manifest: SetManifest): BackupOrigin {
  const { host, machine_id: machineId, block_device: blockDevice, stable_id: stableId } = manifest;
  return { host, machineId, blockDevice, stableId };
}

export class SetTarget implements BackupTarget {
  private qemuVersion = '';
  /** What was proven of the unfinished backup. */
  private takenUp: LayerPart | undefined;

  /** `full`: build on nothing, whatever there is. */
  private constructor(
    private readonly set: BackupSet,
    private readonly full: boolean,
    private left: UnfinishedBackup | undefined,
  ) {}

  /** Opens the set in a directory, which is made if it is not there. */
  static async open(directory: string, full: boolean): Promise<SetTarget> {
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw storageError(error, directory);
    }
    const set = await BackupSet.open(directory, 'write');
    return new SetTarget(set, full, await findUnfinished(directory));
  }

  /** What open() would find; nothing is made. */
  static async glance(
    directory: string,
    full: boolean,
  ): Promise<{ found: SetTarget; unfinished: boolean }> {
    const isThere = await exists(directory);
    const { set, unfinished } = isThere
      ? await BackupSet.glance(directory)
      : { set: BackupSet.absent(directory), unfinished: false };
    const left = isThere ? await findUnfinished(directory) : undefined;
    return { found: new SetTarget(set, full, left), unfinished };
  }

  async close(): Promise<void> {
    await this.set.close();
  }

  get path(): string {
    return this.set.directory;
  }

  get base(): BackupBase | undefined {
    const { newest } = this.set;
    if (this.full || !newest) return undefined;
    return { cookie: newest.cookie, sizeBytes: newest.volume_bytes };
  }

  get whyNone(): string {
    return this.full ? 'asked for by --full' : 'this is the first backup in this set';
  }

  async checkMayWrite(origin: OriginDetails): Promise<void> {
    await requireTools();
    this.qemuVersion = await qemuVersion();
    if (this.full) return;
    const { directory, newest, unreadable } = this.set;
    const [bad] = unreadable.filter(({ id }) => id > (newest?.id ?? 0));
    if (bad) {
      throw new CliError(
        `${directory}: the manifest of backup ${String(bad.id)} cannot be read (${bad.why}); put it back, or begin a new chain with --full`,
        EXIT.state,
      );
    }
    if (!newest) return;
    if (!isSameOrigin(originOf(newest), origin)) {
      throw new CliError(
        `${directory} holds backups of ${newest.block_device} on ${newest.host}, and this is ${origin.blockDevice} on ${origin.host}: give another directory, or begin a new chain here with --full`,
        EXIT.state,
      );
    }
    await this.set.soundChainOf(newest);
  }

  get unfinished(): ProgressRecord | undefined {
    return this.left?.record;
  }

  async takeUp(signal: AbortSignal): Promise<void> {
    const { directory } = this.set;
    if (!this.left) throw new CliError(`${directory}: there is no unfinished transfer`);
    const { id, record } = this.left;
    const { proof, offset_bytes: offset, transfer } = record;
    if (proof.of !== 'layer') throw new CliError(`${directory}: its progress is not that of a set`);
    const paths = this.set.paths(id);
    const parent = transfer.type === 'full' ? undefined : this.set.require(undefined).id;
    const parentPaths = parent === undefined ? undefined : this.set.paths(parent);
    this.takenUp = await cutLayer(paths, transfer.size_bytes, parentPaths, offset, proof, signal);
  }

  async discard(): Promise<void> {
    const { left } = this;
    this.left = undefined;
    this.takenUp = undefined;
    if (!left) return;
    await removeParts(this.set.paths(left.id));
    await this.set.load();
  }

  async writeFull(
    blocks: AsyncIterable<Blocks>,
    sizeBytes: number,
    origin: OriginDetails,
    cookie: ManifestCookie,
    transfer?: Transfer,
  ): Promise<WrittenBackup> {
    return this.write(blocks, sizeBytes, null, origin, cookie, transfer);
  }

  async writeIncrement(
    blocks: AsyncIterable<Blocks>,
    origin: OriginDetails,
    cookie: ManifestCookie,
    transfer?: Transfer,
  ): Promise<WrittenBackup> {
    const { id, volume_bytes: sizeBytes } = this.set.require(undefined);
    return this.write(blocks, sizeBytes, id, origin, cookie, transfer);
  }

  async withdraw(): Promise<string> {
    const { directory } = this.set;
    const { id } = this.set.require(undefined);
    try {
      await drop(directory, id);
      await this.set.load();
    } catch (error) {
      throw storageError(error, directory);
    }
    return 'it was deleted again';
  }

  content(): BackupContent {
    return new SetContent(this.set, this.set.require(undefined));
  }

  private async write(
    blocks: AsyncIterable<Blocks>,
    volumeBytes: number,
    parent: number | null,
    origin: OriginDetails,
    cookie: ManifestCookie,
    transfer: Transfer | undefined,
  ): Promise<WrittenBackup> {
    const { directory } = this.set;
    const former = this.takenUp;
    if (!former) await this.discard();
    const id = this.left?.id ?? this.set.nextId;
    const paths = this.set.paths(id);
    const recorder = transfer && new ProgressRecorder(paths.progress, transfer);
    try {
      if (!former) await removeParts(paths);
      const base = parent === null ? undefined : this.set.require(parent);
      const basePaths = base && this.set.paths(base.id);
      const layer = await writeLayer(paths, blocks, volumeBytes, basePaths, former, recorder);
      atStep('layer-complete');
      const skipped = layer.coverage.over(base && skippedFromManifest(base.skipped, volumeBytes));
      const manifest = this.manifestOf(id, parent, volumeBytes, layer, skipped, origin, cookie);
      await writeFileAtomically(paths.partialManifest, serializeSetManifest(manifest));
    } catch (error) {
      this.takenUp = undefined;
      this.left =
        error instanceof BrokenTransferError ? await findUnfinished(directory) : undefined;
      if (!this.left) await removeParts(paths).catch(() => undefined);
      throw storageError(error, directory);
    }
    this.left = undefined;
    atStep('layer-committed');
    try {
      // If that fails the next run does it: the backup is complete.
      await putInPlace(directory, id);
      await this.set.load();
    } catch (error) {
      throw storageError(error, directory);
    }
    return { path: paths.image, id, parent };
  }

  private manifestOf(
    id: number,
    parent: number | null,
    volumeBytes: number,
    layer: Layer,
    skipped: ChangeMap,
    origin: OriginDetails,
    cookie: ManifestCookie,
  ): SetManifest {
    const paths = this.set.paths(id);
    return {
      format: 1,
      id,
      parent,
      created: new Date().toISOString(),
      host: origin.host,
      machine_id: origin.machineId,
      block_device: origin.blockDevice,
      stable_id: origin.stableId,
      volume_bytes: volumeBytes,
      cookie,
      file: paths.imageName,
      file_bytes: layer.fileBytes,
      held_bytes: layer.heldBytes,
      data_bytes: layer.dataBytes,
      skipped_bytes: Number(skipped.coveredBytes(BigInt(volumeBytes))),
      skipped: skippedToManifest(skipped),
      checksums: checksumsOf(paths, layer.sums),
      tools: {
        elioctl: AGENT_VERSION,
        agent: origin.agentVersion,
        module: origin.moduleVersion,
        kernel: origin.kernelRelease,
        qemu_img: this.qemuVersion,
      },
    };
  }
}
