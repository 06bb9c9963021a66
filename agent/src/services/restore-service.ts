// SPDX-License-Identifier: Apache-2.0
import { createHash, randomUUID } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import {
  BeginRestoreResponse,
  type AbortRestoreRequest,
  type AbortRestoreResponse,
  type BeginRestoreRequest,
  type CommitRestoreRequest,
  type CommitRestoreResponse,
  type GetRestoreRequest,
  type GetRestoreResponse,
  type ListTargetDigestsRequest,
  type ListTargetDigestsResponse,
  type RestoreServiceServer,
  type WriteBlocksRequest,
  type WriteBlocksResponse,
} from '../../../proto/gen/elio/v1/restore.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { AgentError, isErrnoException } from '../errors.js';
import { deviceSizeBytes } from '../os/block-devices.js';
import { alignedBuffer, DeviceWriter } from '../os/direct-io.js';
import { blockDeviceNumber } from '../os/mounts.js';
import { findObstacle, lookAtTarget } from '../os/overwriting.js';
import { clientStream, serverStream, unary } from '../server/rpc.js';
import type { RequestLog } from '../state/requests.js';
import { chunkDigestsOf } from './chunk-digests.js';
import { CHUNK_SIZE } from './chunks.js';
import type { Trackers } from './trackers.js';

const BLOCK = BigInt(BLOCK_SIZE);

/** A client that does nothing for so long is gone; the target is given up. */
const IDLE_LIMIT_MS = 10 * 60 * 1000;

/** A client may pause so long between two calls, without another one's taking its target. */
const PAUSE_MS = 10_000;

/** Digests that are sent together: those of 64 MiB. */
const DIGESTS_PER_MESSAGE = 64;

interface Restore {
  id: string;
  target: string;
  sizeBytes: bigint;
  device: DeviceWriter;
  idle: NodeJS.Timeout;
  /** When its client was last heard of. */
  usedMs: number;
  /** Its client is there. */
  touch: () => void;
  /** Calls under way that read the target. */
  readers: number;
  writers: number;
  writtenBytes: bigint;
  verifiedBytes: bigint;
  /** Aborted when the target is given up. */
  end: AbortController;
}

function precondition(reason: string, message: string, target: string): AgentError {
  return new AgentError(status.FAILED_PRECONDITION, reason, message, { device: target });
}

/** Aborted when the caller is gone, or the restore is. */
function endOf(restore: Restore, signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, restore.end.signal]);
}

/** A target's end while something of it was to be read. */
function aborted(target: string): AgentError {
  return new AgentError(
    status.CANCELLED,
    'RESTORE_ABORTED',
    `the restore to ${target} was given up: it is unusable`,
    { device: target },
  );
}

/**
 * The digest of each chunk that a target holds of a restore, in order; read from the device, not from memory. It rejects when
 * the signal is aborted.
 */
async function* digestsOf(restore: Restore, signal: AbortSignal): AsyncGenerator<Buffer> {
  const { target, sizeBytes } = restore;
  restore.readers += 1;
  try {
    for await (const digest of chunkDigestsOf(target, Number(sizeBytes))) {
      if (signal.aborted) throw aborted(target);
      restore.touch();
      yield digest;
    }
  } finally {
    restore.readers -= 1;
  }
}

/** Writes backups to block devices. */
export class RestoreService {
  private readonly restores = new Map<string, Restore>();

  constructor(
    private readonly trackers: Trackers,
    private readonly requests: RequestLog,
    private readonly claim = (target: string): Promise<DeviceWriter> => DeviceWriter.open(target),
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  handlers(): RestoreServiceServer {
    return {
      beginRestore: unary((r) => this.begin(r)),
      listTargetDigests: serverStream((r, signal) => this.listDigests(r, signal)),
      writeBlocks: clientStream((r) => this.write(r)),
      commitRestore: unary((r, signal) => this.commit(r, signal)),
      getRestore: unary((r) => Promise.resolve(this.get(r))),
      abortRestore: unary((r) => this.abort(r)),
    };
  }

  protected async checkTarget(device: string, sizeBytes: bigint): Promise<string> {
    const target = await realpath(device).catch(() => undefined);
    if (target === undefined) {
      throw new AgentError(status.NOT_FOUND, 'PATH_NOT_FOUND', `${device} does not exist`, {
        device,
      });
    }
    if ((await blockDeviceNumber(target)) === undefined) {
      throw new AgentError(
        status.INVALID_ARGUMENT,
        'NOT_A_BLOCK_DEVICE',
        `${device} is not a block device`,
        { device },
      );
    }
    const trackers = await this.trackers.list().catch(() => []);
    const obstacle = findObstacle(await lookAtTarget(target), sizeBytes, trackers);
    if (obstacle) throw precondition(obstacle.reason, obstacle.message, target);
    return target;
  }

  private begin(r: BeginRestoreRequest): Promise<BeginRestoreResponse> {
    return this.requests.once(r.requestId, 'BeginRestore', BeginRestoreResponse, async () => {
      const target = await this.checkTarget(r.targetDevice, r.sizeBytes);
      await this.takeOver(target);
      const device = await this.claim(target).catch((error: unknown) => {
        if (!isErrnoException(error) || error.code !== 'EBUSY') throw error;
        throw precondition('TARGET_IN_USE', `${target} is in use by another program`, target);
      });
      const id = randomUUID();
      const restore: Restore = {
        id,
        target,
        sizeBytes: r.sizeBytes,
        device,
        usedMs: this.nowMs(),
        touch: () => {
          restore.idle.refresh();
          restore.usedMs = this.nowMs();
        },
        readers: 0,
        writers: 0,
        writtenBytes: 0n,
        verifiedBytes: 0n,
        end: new AbortController(),
        idle: setTimeout(() => void this.giveUp(id), IDLE_LIMIT_MS).unref(),
      };
      this.restores.set(id, restore);
      return {
        restoreId: id,
        targetDevice: target,
        targetSizeBytes: await deviceSizeBytes(target),
      };
    });
  }

  /** A client that was killed leaves its target claimed: whoever begins anew there gets it. */
  private async takeOver(target: string): Promise<void> {
    const former = [...this.restores.values()].find((restore) => restore.target === target);
    if (!former) return;
    const { id, readers, writers, usedMs } = former;
    const pausesMs = this.nowMs() - usedMs;
    if (readers > 0 || writers > 0 || pausesMs < PAUSE_MS) {
      throw precondition(
        'TARGET_IN_USE',
        `another restore to ${target} is under way: if its client is gone, try again in ${String(PAUSE_MS / 1000)} s; else wait for its end`,
        target,
      );
    }
    await this.giveUp(id);
  }

  private find(id: string): Restore {
    const restore = this.restores.get(id);
    if (!restore) {
      throw new AgentError(
        status.NOT_FOUND,
        'NO_SUCH_RESTORE',
        `there is no restore ${JSON.stringify(id)}: it was aborted, committed or given up; begin again`,
      );
    }
    restore.touch();
    return restore;
  }

  private async giveUp(id: string): Promise<void> {
    const restore = this.restores.get(id);
    if (!restore) return;
    this.restores.delete(id);
    clearTimeout(restore.idle);
    restore.end.abort();
    await restore.device.close();
  }

  private checkRange(
    restore: Restore,
    offset: bigint,
    length: bigint,
    most = restore.sizeBytes,
  ): void {
    const end = offset + length;
    const whole = offset % BLOCK === 0n && (length % BLOCK === 0n || end === restore.sizeBytes);
    if (length > 0n && length <= most && whole && end <= restore.sizeBytes) return;
    throw new AgentError(
      status.OUT_OF_RANGE,
      'OFFSET_BEHIND_END',
      `bytes ${String(offset)} to ${String(end)} are not at most ${String(most)} bytes of whole blocks of ${String(BLOCK)} within the backup of ${String(restore.sizeBytes)}`,
      { device: restore.target },
    );
  }

  /** Writes one message; returns the bytes written. `scratch` is an aligned buffer of a chunk. */
  private async writeMessage(
    restore: Restore,
    message: WriteBlocksRequest,
    scratch: Buffer,
  ): Promise<bigint> {
    const { content } = message;
    if (content?.$case === 'data') {
      const { offsetBytes, data, crc32: checksum } = content.value;
      this.checkRange(restore, offsetBytes, BigInt(data.length), BigInt(CHUNK_SIZE));
      if (crc32(data) !== checksum) {
        throw new AgentError(
          status.DATA_LOSS,
          'DATA_CHECKSUM_MISMATCH',
          `the data for offset ${String(offsetBytes)} was damaged on its way`,
          { device: restore.target },
        );
      }
      await restore.device.write(data, Number(offsetBytes), scratch);
      return BigInt(data.length);
    }
    if (content?.$case === 'hole') {
      const { offsetBytes, lengthBytes } = content.value;
      this.checkRange(restore, offsetBytes, lengthBytes);
      await restore.device.zero(offsetBytes, lengthBytes);
      return lengthBytes;
    }
    return 0n;
  }

  private async write(messages: AsyncIterable<WriteBlocksRequest>): Promise<WriteBlocksResponse> {
    let restore: Restore | undefined;
    let writtenBytes = 0n;
    const scratch = alignedBuffer(CHUNK_SIZE);
    try {
      for await (const message of messages) {
        if (!restore) {
          restore = this.find(message.restoreId);
          restore.writers += 1;
        }
        restore.touch();
        const written = await this.writeMessage(restore, message, scratch);
        writtenBytes += written;
        restore.writtenBytes += written;
      }
    } finally {
      if (restore) restore.writers -= 1;
    }
    return { writtenBytes };
  }

  private checkNoWriters(restore: Restore): void {
    if (restore.writers === 0) return;
    throw precondition(
      'RESTORE_IN_PROGRESS',
      `${String(restore.writers)} streams still write to ${restore.target}: end them first`,
      restore.target,
    );
  }

  private async commit(
    r: CommitRestoreRequest,
    signal: AbortSignal,
  ): Promise<CommitRestoreResponse> {
    const restore = this.find(r.restoreId);
    this.checkNoWriters(restore);
    // Until it is given up, at the end of this call.
    restore.readers += 1;
    try {
      await restore.device.sync();
      const tree = createHash('sha256');
      for await (const digest of digestsOf(restore, endOf(restore, signal))) {
        tree.update(digest);
        restore.verifiedBytes += BigInt(CHUNK_SIZE);
        if (restore.verifiedBytes > restore.sizeBytes) restore.verifiedBytes = restore.sizeBytes;
      }
      const actual = tree.digest('hex');
      if (actual !== r.sha256Tree) {
        throw new AgentError(
          status.DATA_LOSS,
          'DATA_CHECKSUM_MISMATCH',
          `${restore.target} does not hold the backup: it is unusable; restore again`,
          { device: restore.target, expected: r.sha256Tree, actual },
        );
      }
      return { sha256Tree: actual };
    } finally {
      await this.giveUp(restore.id);
    }
  }

  private async *listDigests(
    { restoreId }: ListTargetDigestsRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ListTargetDigestsResponse> {
    const restore = this.find(restoreId);
    let digests: Buffer[] = [];
    let offsetBytes = 0n;
    const message = (): ListTargetDigestsResponse => ({
      offsetBytes,
      sha256: Buffer.concat(digests),
    });
    for await (const digest of digestsOf(restore, endOf(restore, signal))) {
      digests.push(digest);
      if (digests.length < DIGESTS_PER_MESSAGE) continue;
      yield message();
      offsetBytes += BigInt(digests.length) * BigInt(CHUNK_SIZE);
      digests = [];
    }
    if (digests.length > 0) yield message();
  }

  private get({ restoreId }: GetRestoreRequest): GetRestoreResponse {
    const { target, sizeBytes, writtenBytes, verifiedBytes } = this.find(restoreId);
    return { targetDevice: target, sizeBytes, writtenBytes, verifiedBytes };
  }

  private async abort(r: AbortRestoreRequest): Promise<AbortRestoreResponse> {
    const restore = this.find(r.restoreId);
    await this.giveUp(restore.id);
    return {};
  }

  /** Gives every target up, as the agent stops. */
  async close(): Promise<void> {
    await Promise.all([...this.restores.keys()].map((id) => this.giveUp(id)));
  }
}
