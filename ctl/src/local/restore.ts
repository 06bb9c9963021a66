// SPDX-License-Identifier: Apache-2.0
// A backup, checked against its manifest, onto a device or into a file of this machine, without an agent.
import { chunkDigestsOf } from '../../../agent/src/services/chunk-digests.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { ChunkSource, type RestoredBytes } from '../backup/chunk-source.js';
import type { ChunkDigests } from '../backup/digests.js';
import { TargetDigests } from '../backup/target-digests.js';
import type { BackupContent } from '../backup/target.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { checkInterrupt } from '../interrupt.js';
import { Progress } from '../progress.js';
import { targetFailure, type LocalTarget } from './target.js';

/** Pieces that are read or written at a time. */
const STREAMS = 4;

/** Runs what has to do with the target; what the system refuses is told in words. */
async function onTarget<T>(path: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    throw targetFailure(error, path);
  }
}

async function* untilAborted(
  digests: AsyncIterable<Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  for await (const digest of digests) {
    checkInterrupt(signal);
    yield digest;
  }
}

/** Writes all that the source hands out. Resolves and rejects when all streams have ended. */
async function writeAll(
  target: LocalTarget,
  source: ChunkSource,
  failed: AbortController,
): Promise<void> {
  const failures: unknown[] = [];
  const streams = Array.from({ length: STREAMS }, async () => {
    const write = target.writer();
    try {
      for await (const blocks of source.pieces()) {
        await onTarget(target.path, () => write(blocks));
      }
    } catch (error) {
      failures.push(error);
      failed.abort();
    }
  });
  await Promise.all(streams);
  // The first one is the cause of the others.
  const [cause] = failures;
  if (cause !== undefined) throw cause instanceof Error ? cause : new CliError(messageOf(cause));
}

/** Reads the target back and compares it. */
async function verify(
  { path, readPath }: LocalTarget,
  digests: ChunkDigests,
  signal: AbortSignal,
): Promise<void> {
  const progress = new Progress('verification', digests.sizeBytes);
  try {
    let index = 0;
    for await (const digest of chunkDigestsOf(readPath, digests.sizeBytes)) {
      checkInterrupt(signal);
      if (!digests.get(index).equals(digest)) {
        throw new CliError(
          `${path} does not give back what was written at byte ${String(index * CHUNK_SIZE)}: its storage is faulty, or another program wrote there`,
        );
      }
      progress.advance(digests.lengthOf(index));
      index += 1;
    }
  } finally {
    progress.stop();
  }
}

/** What a backup is restored to on this machine. */
export interface LocalPlace {
  /** The canonical path. */
  path: string;
  open(): Promise<LocalTarget>;
}

/**
 * Writes a backup to a target, and verifies it there. `onlyChanged`: reads the target first, and writes
 * only what differs. Rejects with CliError, which says what has become of the target.
 */
export async function restoreLocally(
  place: LocalPlace,
  backup: BackupContent,
  onlyChanged: boolean,
  signal: AbortSignal,
): Promise<{ target: string; bytes: RestoredBytes }> {
  // Before the target is touched.
  if (!backup.isCheckedWhileRead) await backup.check(signal);
  const { sizeBytes } = backup;
  const reader = await backup.open();
  try {
    const target = await onTarget(place.path, () => place.open());
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const there = onlyChanged
      ? new TargetDigests(
          untilAborted(chunkDigestsOf(target.readPath, sizeBytes), either),
          sizeBytes,
        )
      : undefined;
    const progress = new Progress('restore', sizeBytes);
    const source = new ChunkSource(reader, sizeBytes, there, progress, either);
    try {
      try {
        await writeAll(target, source, failed);
        await onTarget(target.path, () => target.sync());
      } finally {
        progress.stop();
      }
      await verify(target, source.digests, signal);
      await onTarget(target.path, () => target.complete());
      return { target: target.path, bytes: source.bytes };
    } catch (error) {
      const { data, zeros } = source.bytes;
      const fate = await target.abandon(data + zeros > 0);
      const code = error instanceof CliError ? error.exitCode : EXIT.failed;
      throw new CliError(
        `${signal.aborted ? 'interrupted' : messageOf(error)}; ${fate}`,
        signal.aborted ? EXIT.interrupted : code,
      );
    }
  } finally {
    await reader.close();
  }
}
