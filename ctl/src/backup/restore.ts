// SPDX-License-Identifier: Apache-2.0
// A backup, checked against its manifest, onto a device of a host.
import { randomUUID } from 'node:crypto';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { WriteBlocksRequest } from '../../../proto/gen/elio/v1/restore.js';
import { SLOW_CALL_MS, type Connection } from '../connection.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { fromGrpc } from '../grpc-errors.js';
import { CHUNK_SIZE, chunkDigest, isZero } from '../../../agent/src/services/chunks.js';
import { checkInterrupt } from '../interrupt.js';
import { ChunkDigests } from './digests.js';
import type { BackupContent, VolumeReader } from './target.js';
import { Progress } from '../progress.js';

/** The commit reads the whole target back. */
const COMMIT_BYTES_PER_MS = 4000;

/** Between two looks at how far the commit is. */
const LOOK_MS = 1000;

/** Chunks that a stream takes at a time. Zeros among them that follow each other go as one hole: a device is slow to start zeroing. */
const SPAN = 16;

/** The chunks of a backup, handed out to several streams; each is checked before it goes. */
class ChunkSource {
  private next = 0;
  /** Of what was handed out. */
  readonly digests: ChunkDigests;

  constructor(
    private readonly backup: VolumeReader,
    sizeBytes: number,
    private readonly progress: Progress,
    private readonly signal: AbortSignal,
  ) {
    this.digests = ChunkDigests.empty(sizeBytes);
  }

  async *messages(restoreId: string): AsyncGenerator<WriteBlocksRequest> {
    const { digests } = this;
    while (this.next < digests.count) {
      const first = this.next;
      this.next = Math.min(first + SPAN, digests.count);
      const end = this.next;
      let holeStart: number | undefined;
      let offset = first * CHUNK_SIZE;
      for (let index = first; index < end; index += 1) {
        checkInterrupt(this.signal);
        const data = Buffer.alloc(digests.lengthOf(index));
        await this.backup.read(data, offset);
        const digest = chunkDigest(data);
        if (this.backup.digestOf(index)?.equals(digest) === false) {
          throw new CliError(`the backup is damaged at byte ${String(offset)}: run elioctl verify`);
        }
        digests.set(index, digest);
        if (isZero(data)) {
          holeStart ??= offset;
        } else {
          if (holeStart !== undefined) yield holeMessage(restoreId, holeStart, offset);
          holeStart = undefined;
          yield dataMessage(restoreId, offset, data);
        }
        offset += data.length;
        this.progress.advance(data.length);
      }
      if (holeStart !== undefined) yield holeMessage(restoreId, holeStart, offset);
    }
  }
}

function holeMessage(restoreId: string, start: number, end: number): WriteBlocksRequest {
  const value = { offsetBytes: BigInt(start), lengthBytes: BigInt(end - start) };
  return { restoreId, content: { $case: 'hole', value } };
}

function dataMessage(restoreId: string, offset: number, data: Buffer): WriteBlocksRequest {
  const value = { offsetBytes: BigInt(offset), data, crc32: crc32(data) };
  return { restoreId, content: { $case: 'data', value } };
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
    const messages = Readable.from(source.messages(restoreId), { highWaterMark: 1 });
    const sink: Writable = call;
    pipeline(messages, sink, { signal }).catch((error: unknown) => {
      call.cancel();
      reject(error instanceof Error ? error : new Error(String(error)));
    });
  });
  await answered;
  return writtenBytes;
}

/** Uploads all of a backup; resolves with the checksum of what went. */
async function uploadAll(
  connections: readonly Connection[],
  restoreId: string,
  backup: BackupContent,
  signal: AbortSignal,
): Promise<string> {
  const { sizeBytes } = backup;
  const reader = await backup.open();
  const progress = new Progress('restore', sizeBytes);
  // The first stream that fails ends the others.
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const source = new ChunkSource(reader, sizeBytes, progress, either);
  try {
    const written = await Promise.all(
      connections.map(async (connection) => {
        try {
          return await upload(connection, restoreId, source, either);
        } catch (error) {
          failed.abort();
          throw error;
        }
      }),
    );
    const total = written.reduce((sum, bytes) => sum + bytes, 0n);
    if (total !== BigInt(sizeBytes)) {
      throw new CliError(
        `the agent wrote ${String(total)} of ${String(sizeBytes)} bytes: restore again`,
      );
    }
    return source.digests.tree();
  } finally {
    progress.stop();
    await reader.close();
  }
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

/**
 * Writes the backup to a device, over as many streams as there are connections, and has it verified. Rejects with CliError,
 * which says that the target is unusable once anything may have been written.
 */
export async function restore(
  connections: readonly [Connection, ...Connection[]],
  backup: BackupContent,
  targetDevice: string,
  signal: AbortSignal,
): Promise<string> {
  const [connection] = connections;
  const { sizeBytes } = backup;
  // Before the target is touched.
  if (!backup.isCheckedWhileRead) await backup.check(signal);
  const begin = { targetDevice, sizeBytes: BigInt(sizeBytes), requestId: randomUUID() };
  const begun = await connection.restores.beginRestore(begin);
  const { restoreId, targetDevice: target } = begun;
  try {
    const sha256Tree = await uploadAll(connections, restoreId, backup, signal);
    checkInterrupt(signal);
    await commit(connection, { restoreId, sha256Tree }, sizeBytes, signal);
    return target;
  } catch (error) {
    const abort = connection.restores.abortRestore({ restoreId });
    await abort.catch(() => undefined);
    const code = error instanceof CliError ? error.exitCode : EXIT.failed;
    throw new CliError(
      `${signal.aborted ? 'interrupted' : messageOf(error)}; ${target} is unusable now: restore again`,
      signal.aborted ? EXIT.interrupted : code,
    );
  }
}
