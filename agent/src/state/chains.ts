// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import { blocksOf, ChangeMap } from '../changes/change-map.js';
import type { BlockRun } from '../changes/run-list.js';
import { readChangeMap } from '../changes/cow-file.js';
import { parseChangeMap, serializeChangeMap } from '../changes/map-file.js';
import { isErrnoException } from '../errors.js';
import { writeFileAtomically } from '../os/atomic-file.js';

/** Change maps kept of one chain: so far back can a delta reach. */
export const MAPS_KEPT = 32;

/** A tracker that was lost can come back (its device was away): its chain is kept so long after the last transition. */
const LOST_KEPT_MS = 30 * 24 * 60 * 60 * 1000;

const oldCowFileSchema = z.object({ path: z.string(), seqId: z.string() });

const hiddenSchema = z.object({
  seqId: z.string(),
  runs: z.array(z.object({ first: z.int(), count: z.int() })),
});

const chainSchema = z.object({
  uuid: z.string().regex(/^[0-9a-f]{32}$/),
  /** seq_id -> nonce of that snapshot. */
  nonces: z.record(z.string(), z.string()),
  /**
   * Blocks of the COW file of the current snapshot. Its image has zeros there, those before and after it have not: they
   * change with each transition, although nobody writes to them.
   */
  hidden: hiddenSchema.optional(),
  /** What the last transition left behind and nobody has deleted yet. */
  oldCowFile: oldCowFileSchema.optional(),
  /** A transition that may or may not have happened. */
  pending: z.object({ oldCowFile: oldCowFileSchema, nonce: z.string() }).optional(),
});

type Chain = z.infer<typeof chainSchema>;

/** Where a tracker is in its chain, as the driver tells. */
export interface Position {
  uuid: string;
  seqId: bigint;
  sizeBytes: bigint;
  /** Blocks of the current COW file, ascending; rejects when it is no longer there as it was at the instant. */
  cowFileBlocks: () => Promise<BlockRun[]>;
  /** Blocks that had changed since the snapshot before, ascending; undefined when the driver does not know any more. */
  changedBefore: () => Promise<Iterable<BlockRun> | undefined>;
}

/** Why the changes since a cookie cannot be told: the caller must take a full. */
export class ChangesUnknownError extends Error {}

function newNonce(): string {
  return randomBytes(16).toString('hex');
}

async function hiddenAt(position: Position): Promise<Chain['hidden']> {
  try {
    return { seqId: String(position.seqId), runs: await position.cowFileBlocks() };
  } catch {
    // The next change map is then not made, and the next backup is a full.
    return undefined;
  }
}

/**
 * What the agent remembers of chains of snapshots: a random nonce for each snapshot, and the change
 * map from each snapshot to the next. Kept in files, so that it outlives the agent; calls for one
 * chain must not run at the same time.
 */
export class ChainStore {
  constructor(private readonly directory: string) {}

  private chainPath(uuid: string): string {
    return join(this.directory, uuid, 'chain.json');
  }

  private mapPath(uuid: string, fromSeqId: bigint): string {
    return join(this.directory, uuid, `${String(fromSeqId)}.map`);
  }

  private async load(uuid: string): Promise<Chain> {
    try {
      return chainSchema.parse(JSON.parse(await readFile(this.chainPath(uuid), 'utf8')));
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT') return { uuid, nonces: {} };
      throw error;
    }
  }

  private save(chain: Chain): Promise<void> {
    return writeFileAtomically(this.chainPath(chain.uuid), `${JSON.stringify(chain, null, 2)}\n`);
  }

  /** A chain has begun with the snapshot at `position`. */
  async begin(position: Position): Promise<void> {
    await this.save({
      uuid: position.uuid,
      nonces: { [String(position.seqId)]: newNonce() },
      hidden: await hiddenAt(position),
    });
  }

  /** To be called before the driver makes the next snapshot; the change map can then not be lost. */
  async prepareTransition(position: Position, cowFile: string): Promise<void> {
    await this.settle(position);
    const chain = await this.forgetLater(position);
    chain.pending = {
      oldCowFile: { path: cowFile, seqId: String(position.seqId) },
      nonce: newNonce(),
    };
    await this.save(chain);
  }

  /**
   * Finishes a transition that was prepared: if `position` shows that it happened, the change map is kept.
   */
  async settle(position: Position): Promise<Chain> {
    const chain = await this.load(position.uuid);
    const { pending } = chain;
    if (!pending) return chain;
    const fromSeqId = BigInt(pending.oldCowFile.seqId);
    if (position.seqId === fromSeqId + 1n) {
      const map = await this.mapOf(chain, pending.oldCowFile.path, position);
      const path = this.mapPath(chain.uuid, fromSeqId);
      // Without the map the chain is broken here, and the missing file says so: one that is there is of another timeline.
      if (map) await writeFileAtomically(path, serializeChangeMap(map));
      else await rm(path, { force: true });
      chain.hidden = await hiddenAt(position);
      chain.nonces[String(position.seqId)] = pending.nonce;
      chain.oldCowFile = pending.oldCowFile;
    }
    delete chain.pending;
    await this.prune(chain, position.seqId);
    await this.save(chain);
    return chain;
  }

  /** What differs between the images before and after the transition to `position`; undefined: unknown. */
  private async mapOf(
    chain: Chain,
    oldCowFile: string,
    position: Position,
  ): Promise<ChangeMap | undefined> {
    const { uuid, seqId, sizeBytes } = position;
    const fromSeqId = seqId - 1n;
    const { hidden } = chain;
    const nrBlocks = blocksOf(sizeBytes);
    if (hidden?.seqId !== String(fromSeqId)) return undefined;
    try {
      // The driver forgets at the next transition, and when it is unloaded: the file is there longer.
      const runs = await position.changedBefore();
      const map = runs
        ? ChangeMap.fromRuns(nrBlocks, runs)
        : await readChangeMap(oldCowFile, uuid, fromSeqId, sizeBytes);
      const hiddenThen = ChangeMap.fromRuns(nrBlocks, hidden.runs);
      const hiddenNow = ChangeMap.fromRuns(nrBlocks, await position.cowFileBlocks());
      return map.union(hiddenThen.union(hiddenNow));
    } catch {
      return undefined;
    }
  }

  /**
   * Forgets the snapshots after the present one, and the maps that lead to them: where there are any the volume was set back, and they
   * are of another timeline.
   */
  private async forgetLater({ uuid, seqId }: Position): Promise<Chain> {
    const chain = await this.load(uuid);
    const later = Object.keys(chain.nonces).filter((known) => BigInt(known) > seqId);
    for (const known of later) {
      Reflect.deleteProperty(chain.nonces, known);
      await rm(this.mapPath(uuid, BigInt(known) - 1n), { force: true });
    }
    if (later.length > 0) await this.save(chain);
    return chain;
  }

  private async prune(chain: Chain, seqId: bigint): Promise<void> {
    for (const known of Object.keys(chain.nonces)) {
      if (BigInt(known) >= seqId - BigInt(MAPS_KEPT)) continue;
      Reflect.deleteProperty(chain.nonces, known);
      await rm(this.mapPath(chain.uuid, BigInt(known)), { force: true });
    }
  }

  async cookie(position: Position): Promise<Cookie> {
    const chain = await this.settle(position);
    const nonce = chain.nonces[String(position.seqId)] ?? '';
    return { uuid: position.uuid, seqId: position.seqId, nonce };
  }

  /** As cookie(), of a position that is still the present one when this has ended: the caller lets nobody change it meanwhile. */
  async presentCookie(position: Position): Promise<Cookie> {
    const cookie = await this.cookie(position);
    await this.forgetLater(position);
    return cookie;
  }

  /**
   * What changed between the snapshot of an earlier cookie and the one at `position`. Rejects with
   * ChangesUnknownError.
   */
  async changesSince(since: Cookie, position: Position): Promise<ChangeMap> {
    const chain = await this.settle(position);
    if (since.uuid !== position.uuid) {
      throw new ChangesUnknownError('the snapshot belongs to another chain');
    }
    if (since.seqId > position.seqId) {
      throw new ChangesUnknownError('the snapshot is newer than what this host has');
    }
    if (since.nonce === '' || chain.nonces[String(since.seqId)] !== since.nonce) {
      throw new ChangesUnknownError(
        'this host does not know that snapshot (it is too old, or the host was reverted or cloned)',
      );
    }
    let map = ChangeMap.empty(blocksOf(position.sizeBytes));
    for (let seqId = since.seqId; seqId < position.seqId; seqId += 1n) {
      map = map.union(await this.readMap(position, seqId));
    }
    return map;
  }

  private async readMap(position: Position, fromSeqId: bigint): Promise<ChangeMap> {
    const name = `the change map from snapshot ${String(fromSeqId)} to the next`;
    let map: ChangeMap;
    try {
      map = await parseChangeMap(createReadStream(this.mapPath(position.uuid, fromSeqId)));
    } catch (error) {
      throw new ChangesUnknownError(`${name} is missing or damaged`, { cause: error });
    }
    if (map.nrBlocks === blocksOf(position.sizeBytes)) return map;
    throw new ChangesUnknownError(`${name} is of a volume of another size`);
  }

  /** The COW file that the last transition left, and the snapshot that it is of. */
  async oldCowFile(position: Position): Promise<{ path: string; seqId: bigint } | undefined> {
    const { oldCowFile } = await this.settle(position);
    return oldCowFile && { path: oldCowFile.path, seqId: BigInt(oldCowFile.seqId) };
  }

  async forgetOldCowFile(position: Position): Promise<void> {
    const chain = await this.settle(position);
    delete chain.oldCowFile;
    await this.save(chain);
  }

  /** The chain has ended. */
  async end(uuid: string): Promise<void> {
    await rm(join(this.directory, uuid), { recursive: true, force: true });
  }

  /** Ends the chains that are none of these and have not been for long. */
  async endLost(uuids: readonly string[], nowMs = Date.now()): Promise<void> {
    for (const uuid of await readdir(this.directory).catch((): string[] => [])) {
      if (uuids.includes(uuid)) continue;
      // Each transition writes to the directory.
      const { mtimeMs } = await stat(join(this.directory, uuid));
      if (nowMs - mtimeMs > LOST_KEPT_MS) await this.end(uuid);
    }
  }
}
