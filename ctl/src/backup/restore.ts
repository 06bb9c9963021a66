// SPDX-License-Identifier: Apache-2.0
// A backup, checked against its manifest, onto a device of a host.
import { randomUUID } from 'node:crypto';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type {
  ListTargetDigestsResponse,
  WriteBlocksRequest,
} from '../../../proto/gen/elio/v1/restore.js';
import { SLOW_CALL_MS, type Connection } from '../connection.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { fromGrpc } from '../grpc-errors.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { checkInterrupt } from '../interrupt.js';
import type { Content } from './blocks.js';
import { ChunkSource, type RestoredBytes } from './chunk-source.js';
import type { BackupContent } from './target.js';
import { Progress } from '../progress.js';
import { TargetDigests } from './target-digests.js';

/** The commit reads the whole target back. */
const COMMIT_BYTES_PER_MS = 4000;

/** Between two looks at how far the commit is. */
const LOOK_MS = 1000;

/** Bytes of a SHA-256. */
const DIGEST_SIZE = 32;

function messageOfBlocks(restoreId: string, blocks: Content): WriteBlocksRequest {
  const offsetBytes = BigInt(blocks.offset);
  if (blocks.kind === 'hole') {
    const value = { offsetBytes, lengthBytes: BigInt(blocks.length) };
    return { restoreId, content: { $case: 'hole', value } };
  }
  const { data } = blocks;
  const value = { offsetBytes, data, crc32: crc32(data) };
  return { restoreId, content: { $case: 'data', value } };
}

async function* messagesOf(
  restoreId: string,
  source: ChunkSource,
): AsyncGenerator<WriteBlocksRequest> {
  // Before there is anything to write: the agent is to know of the stream, for a restore without any is given up for the next one.
  yield { restoreId, content: undefined };
  for await (const blocks of source.pieces()) yield messageOfBlocks(restoreId, blocks);
}

/** The digests of what the target holds, as the agent reads it. Rejects with CliError; the signal ends it. */
async function* digestsFrom(
  connection: Connection,
  restoreId: string,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const call = connection.uploads.listTargetDigests({ restoreId });
  const cancel = (): void => {
    call.cancel();
  };
  signal.addEventListener('abort', cancel, { once: true });
  let offset = 0;
  try {
    for await (const message of call as AsyncIterable<ListTargetDigestsResponse>) {
      const { offsetBytes, sha256 } = message;
      if (Number(offsetBytes) !== offset || sha256.length % DIGEST_SIZE !== 0) {
        throw new CliError("the agent's checksums of the target are not whole: restore again");
      }
      for (let at = 0; at < sha256.length; at += DIGEST_SIZE) {
        yield sha256.subarray(at, at + DIGEST_SIZE);
        offset += CHUNK_SIZE;
      }
    }
  } catch (error) {
    checkInterrupt(signal);
    throw fromGrpc(error, connection.label);
  } finally {
    signal.removeEventListener('abort', cancel);
    call.cancel();
  }
}

/** One upload stream; resolves with the bytes that the agent has written. */
async function upload(
  connection: Connection,
  restoreId: string,
  source: ChunkSource,
  signal: AbortSignal,
): Promise<bigint> {
  let writtenBytes = 0n;
  const answered = new Promise<void>((resolve, reject) => {
    const call = connection.uploads.writeBlocks((error, answer) => {
      if (error) {
        reject(fromGrpc(error, connection.label));
        return;
      }
      ({ writtenBytes } = answer);
      resolve();
    });
    const messages = Readable.from(messagesOf(restoreId, source), { highWaterMark: 1 });
    const sink: Writable = call;
    pipeline(messages, sink, { signal }).catch((error: unknown) => {
      call.cancel();
      reject(error instanceof Error ? error : new Error(String(error)));
    });
  });
  await answered;
  return writtenBytes;
}

/** Uploads all that the source hands out. The first stream that fails ends the others, by `failed`. */
async function uploadAll(
  connections: readonly Connection[],
  restoreId: string,
  source: ChunkSource,
  failed: AbortController,
  signal: AbortSignal,
): Promise<void> {
  const written = await Promise.all(
    connections.map(async (connection) => {
      try {
        return await upload(connection, restoreId, source, signal);
      } catch (error) {
        failed.abort();
        throw error;
      }
    }),
  );
  const total = written.reduce((sum, bytes) => sum + bytes, 0n);
  const { data, zeros } = source.bytes;
  const expected = BigInt(data + zeros);
  if (total === expected) return;
  throw new CliError(
    `the agent wrote ${String(total)} of ${String(expected)} bytes: restore again`,
  );
}

/** Adds what the agent has read back until the signal is aborted; what cannot be learnt is left out. */
async function watchCommit(
  connection: Connection,
  restoreId: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  let seenBytes = 0;
  for (;;) {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    const now = await connection.restores.getRestore({ restoreId }).catch(() => undefined);
    const verifiedBytes = Number(now?.verifiedBytes ?? seenBytes);
    progress.advance(verifiedBytes - seenBytes);
    seenBytes = verifiedBytes;
  }
}

/** Has the agent read the target back and compare it. An interrupt ends that. */
async function commit(
  connection: Connection,
  request: { restoreId: string; sha256Tree: string },
  sizeBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const { restoreId } = request;
  const limitMs = SLOW_CALL_MS + sizeBytes / COMMIT_BYTES_PER_MS;
  const progress = new Progress('verification', sizeBytes);
  const ended = new AbortController();
  const abort = (): void => {
    void connection.restores.abortRestore({ restoreId }).catch(() => undefined);
  };
  signal.addEventListener('abort', abort, { once: true });
  const watching = watchCommit(connection, restoreId, progress, ended.signal);
  try {
    await connection.restores.commitRestore(request, limitMs);
  } finally {
    signal.removeEventListener('abort', abort);
    ended.abort();
    await watching;
    progress.stop();
  }
}

/** Who restores, and where to. */
export interface RestoreTarget {
  /** Each has an upload stream of its own. */
  connections: readonly [Connection, ...Connection[]];
  targetDevice: string;
  /** Have the agent read the target first, and send only what differs. */
  onlyChanged: boolean;
}

/** What a restore has done. */
export interface RestoreResult {
  /** The canonical path of what now holds the backup. */
  target: string;
  bytes: RestoredBytes;
}

/** What is to be said of a target whose restore did not get to its end. */
function fateOf(target: string, { data, zeros }: RestoredBytes): string {
  return data + zeros > 0
    ? `${target} is unusable now: restore again`
    : `nothing was written to ${target}`;
}

/**
 * Writes the backup to a device, over as many streams as there are connections, and has it verified. Rejects with CliError,
 * which says that the target is unusable once anything may have been written.
 */
export async function restore(
  { connections, targetDevice, onlyChanged }: RestoreTarget,
  backup: BackupContent,
  signal: AbortSignal,
): Promise<RestoreResult> {
  const [connection] = connections;
  const { sizeBytes } = backup;
  // Before the target is touched.
  if (!backup.isCheckedWhileRead) await backup.check(signal);
  const reader = await backup.open();
  try {
    const begin = { targetDevice, sizeBytes: BigInt(sizeBytes), requestId: randomUUID() };
    const { restoreId, targetDevice: target } = await connection.restores.beginRestore(begin);
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const there = onlyChanged
      ? new TargetDigests(digestsFrom(connection, restoreId, either), sizeBytes)
      : undefined;
    const progress = new Progress('restore', sizeBytes);
    const source = new ChunkSource(reader, sizeBytes, there, progress, either);
    try {
      try {
        await uploadAll(connections, restoreId, source, failed, either);
      } finally {
        progress.stop();
      }
      checkInterrupt(signal);
      const sha256Tree = source.digests.tree();
      await commit(connection, { restoreId, sha256Tree }, sizeBytes, signal);
      return { target, bytes: source.bytes };
    } catch (error) {
      const abort = connection.restores.abortRestore({ restoreId });
      await abort.catch(() => undefined);
      const code = error instanceof CliError ? error.exitCode : EXIT.failed;
      throw new CliError(
        `${signal.aborted ? 'interrupted' : messageOf(error)}; ${fateOf(target, source.bytes)}`,
        signal.aborted ? EXIT.interrupted : code,
      );
    }
  } finally {
    await reader.close();
  }
}
