// SPDX-License-Identifier: Apache-2.0
// An agent with one volume in memory, on a unix socket or over mTLS: what elioctl needs of it for backups and restores.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import {
  Server,
  ServerCredentials,
  status,
  type handleUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { crc32 } from 'node:zlib';
import { AgentError, toServiceError } from '../../../agent/src/errors.js';
import { CHUNK_SIZE } from '../../../agent/src/services/chunks.js';
import { scatteredMessage } from '../../../agent/src/services/stream-pieces.js';
import { withDigests } from '../../../agent/src/services/stream-digests.js';
import {
  DataServiceService,
  type DataServiceServer,
  type ReadBlocksResponse,
} from '../../../proto/gen/elio/v1/data.js';
import {
  BlockDevice,
  GetHostResponse,
  HostServiceService,
  type HostServiceServer,
} from '../../../proto/gen/elio/v1/host.js';
import {
  RestoreServiceService,
  type ListTargetDigestsRequest,
  type ListTargetDigestsResponse,
  type RestoreServiceServer,
} from '../../../proto/gen/elio/v1/restore.js';
import {
  SnapshotServiceService,
  type SnapshotServiceServer,
} from '../../../proto/gen/elio/v1/snapshot.js';
import { Snapshot, TrackerState, type Cookie } from '../../../proto/gen/elio/v1/types.js';
import { lengthOf, type Blocks } from '../backup/blocks.js';
import type { Volume } from '../sets/testing/volume.js';

const ORIGIN = '/dev/vdb1';
const TARGET = '/dev/vdc1';

function unary<Q, A>(answer: (request: Q) => A): handleUnaryCall<Q, A> {
  return (call, callback) => {
    try {
      callback(null, answer(call.request));
    } catch (error) {
      callback(toServiceError(error));
    }
  };
}

function messageOf(blocks: Blocks): ReadBlocksResponse {
  const offsetBytes = BigInt(blocks.offset);
  if (blocks.kind === 'data') {
    const { data } = blocks;
    return { content: { $case: 'data', value: { offsetBytes, data, crc32: crc32(data) } } };
  }
  const lengthBytes = BigInt(blocks.length);
  return { content: { $case: blocks.kind, value: { offsetBytes, lengthBytes } } };
}

/** Every other run of data is scattered blocks, of one or two extents, as from an agent that has small ones. */
function* messagesOf(all: readonly Blocks[]): Generator<ReadBlocksResponse> {
  for (const [i, blocks] of all.entries()) {
    if (blocks.kind !== 'data' || i % 2 === 0) {
      yield messageOf(blocks);
      continue;
    }
    const { offset, data } = blocks;
    const half = Math.min(4096, data.length);
    const pieces = [
      { offset, data: data.subarray(0, half) },
      { offset: offset + half, data: data.subarray(half) },
    ];
    yield scatteredMessage(pieces.filter((piece) => piece.data.length > 0));
  }
}

/** Holes and skipped blocks that touch come as one, as from an agent. */
function joined(blocks: readonly Blocks[]): Blocks[] {
  const all: Blocks[] = [];
  for (const piece of blocks) {
    const last = all.at(-1);
    const touches = last && last.offset + lengthOf(last) === piece.offset;
    if (touches && last.kind !== 'data' && last.kind === piece.kind) last.length += piece.length;
    else all.push({ ...piece });
  }
  return all;
}

/** What of a piece is not before a byte. */
function partFrom(piece: Blocks, start: number): Blocks[] {
  const cut = Math.max(0, start - piece.offset);
  const offset = piece.offset + cut;
  if (cut >= lengthOf(piece)) return [];
  if (piece.kind === 'data') return [{ ...piece, offset, data: piece.data.subarray(cut) }];
  return [{ ...piece, offset, length: piece.length - cut }];
}

export class StubOrigin {
  /** What was restored to the target. */
  readonly target: Buffer;
  /** Bytes that were written to it since this was last set, zeros included. */
  restoredBytes = 0;
  /** Has the stream of the target's checksums fail behind so many of them; unless that is none, once something was restored. */
  digestsUntilFailure = Infinity;
  /** Since snapshot of other nonces nothing is known. */
  nonce = 'd'.repeat(32);
  hostname = 'db1';
  bootId = '';
  /** Of the origin. */
  aliases: string[] = [];
  /** Devices beside origin and target; a snapshot of them is refused. */
  readonly moreDevices: BlockDevice[] = [];
  /** What becomes of the messages of a stream on their way. */
  tamper: (message: ReadBlocksResponse) => ReadBlocksResponse | undefined = (message) => message;
  /** The stream fails behind its first blocks. */
  failsMidway = false;
  /** Where it listens over mTLS. */
  port = 0;
  /** Every call for blocks: from where, how many bytes of data were sent, and how many with those of holes. */
  readonly reads: { fromBytes: number; dataBytes: number; heldBytes: number }[] = [];
  /** Names of the calls that changed or held a snapshot. */
  readonly calls: string[] = [];
  /** Is told of each of them before it is answered. */
  onCall: (name: string) => void = () => undefined;
  /** The oldest snapshot since which the changes are known; undefined: the former one. */
  oldestKnown: bigint | undefined;
  /** What a snapshot has failed with. */
  error = 0;
  /** Failed reads of its snapshots give zeros. */
  ignoreErrors = false;
  /** So many calls for the end of a snapshot are refused: somebody reads the image. */
  busyCalls = 0;
  /** Calls for the rest of a stream are refused with this reason. */
  refusal: string | undefined;
  private readonly server = new Server();
  private state: TrackerState | undefined;
  private seqId = 0n;

  private constructor(readonly volume: Volume) {
    this.target = Buffer.alloc(volume.sizeBytes, 0xff);
  }

  static async start(socket: string, volume: Volume): Promise<StubOrigin> {
    const origin = new StubOrigin(volume);
    await origin.listen(`unix:${socket}`, ServerCredentials.createInsecure());
    return origin;
  }

  /** Listens on a port of 127.0.0.1 with NAME.crt, NAME.key and ca.crt of a directory. */
  static async startTls(name: string, certificates: string, volume: Volume): Promise<StubOrigin> {
    const origin = new StubOrigin(volume);
    origin.hostname = name;
    origin.bootId = `boot of ${name}`;
    const read = (file: string): Buffer => readFileSync(join(certificates, file));
    const pair = { cert_chain: read(`${name}.crt`), private_key: read(`${name}.key`) };
    const credentials = ServerCredentials.createSsl(read('ca.crt'), [pair], true);
    origin.port = await origin.listen('127.0.0.1:0', credentials);
    return origin;
  }

  private async listen(address: string, credentials: ServerCredentials): Promise<number> {
    const { server } = this;
    server.addService(SnapshotServiceService, this.snapshotHandlers());
    server.addService(HostServiceService, this.hostHandlers());
    server.addService(DataServiceService, this.dataHandlers());
    server.addService(RestoreServiceService, this.restoreHandlers());
    return new Promise((resolve, reject) => {
      server.bindAsync(address, credentials, (error, port) => {
        if (error) reject(error);
        else resolve(port);
      });
    });
  }

  stop(): void {
    this.server.forceShutdown();
  }

  /** Is the device in incremental mode? */
  get isIncremental(): boolean {
    return this.state === TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL;
  }

  private get cookie(): Cookie {
    return { uuid: 'c'.repeat(32), seqId: this.seqId, nonce: this.nonce };
  }

  private snapshot(): Snapshot {
    return Snapshot.fromPartial({
      blockDevice: ORIGIN,
      cowFile: '/.elio-cow-a',
      state: this.state ?? TrackerState.TRACKER_STATE_UNSPECIFIED,
      error: this.error,
      ignoreErrors: this.ignoreErrors,
      cookie: this.cookie,
      sizeBytes: BigInt(this.volume.sizeBytes),
    });
  }

  private to(state: TrackerState, isNext = false): { snapshot: Snapshot } {
    this.state = state;
    if (isNext) this.seqId += 1n;
    return { snapshot: this.snapshot() };
  }

  /** Notes the name of a call. */
  private noted<Q, A>(name: string, answer: (request: Q) => A): handleUnaryCall<Q, A> {
    return unary((request) => {
      this.calls.push(name);
      this.onCall(name);
      return answer(request);
    });
  }

  /** As at the end of a lease. */
  endLease(): void {
    this.to(TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL);
  }

  /** As when somebody else has taken the next snapshot, and ended it. */
  passSnapshot(): void {
    this.to(TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL, true);
  }

  private snapshotHandlers(): SnapshotServiceServer {
    const handlers: Partial<SnapshotServiceServer> = {
      getSnapshot: unary(() => ({ snapshot: this.snapshot() })),
      setupSnapshot: this.noted('setupSnapshot', ({ blockDevice }) => {
        if (blockDevice === ORIGIN)
          return this.to(TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT, true);
        throw new AgentError(status.FAILED_PRECONDITION, 'NO_SPACE', 'no room for the COW file');
      }),
      destroySnapshot: this.noted('destroySnapshot', () => {
        this.error = 0;
        this.state = undefined;
        return {};
      }),
      transitionToSnapshot: this.noted('transitionToSnapshot', () => ({
        ...this.to(TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT, true),
        oldCowFile: '/.elio-cow-b',
      })),
      transitionToIncremental: this.noted('transitionToIncremental', () => {
        if (this.busyCalls > 0) {
          this.busyCalls -= 1;
          throw new AgentError(status.ABORTED, 'IMAGE_IN_USE', 'image in use');
        }
        if (this.state !== TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT) {
          throw new AgentError(status.FAILED_PRECONDITION, 'WRONG_STATE', 'not in snapshot mode');
        }
        return this.to(TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL);
      }),
      renewLease: this.noted('renewLease', () => ({ snapshot: this.snapshot() })),
      deleteOldCowFile: this.noted('deleteOldCowFile', () => ({ cowFile: '/.elio-cow-b' })),
    };
    return handlers as SnapshotServiceServer;
  }

  private hostHandlers(): HostServiceServer {
    const device = { sizeBytes: BigInt(this.volume.sizeBytes), kind: 'partition' };
    return {
      getHost: unary(() =>
        GetHostResponse.fromPartial({
          hostname: this.hostname,
          bootId: this.bootId,
          memoryBytes: 2n << 30n,
          agentVersion: '0.1.0',
          moduleVersion: '0.1.0',
          kernelRelease: '6.1.0',
        }),
      ),
      listBlockDevices: unary(() => ({
        blockDevices: [
          BlockDevice.fromPartial({
            ...device,
            path: ORIGIN,
            mountPoints: ['/srv'],
            stableId: 'PARTUUID=1',
            aliases: this.aliases,
            ...(this.state !== undefined && { minor: 0 }),
          }),
          BlockDevice.fromPartial({ ...device, path: TARGET, refusal: 'it is not mounted' }),
          ...this.moreDevices,
        ],
      })),
    };
  }

  private dataHandlers(): DataServiceServer {
    return {
      readBlocks: (call) => {
        const { since, allocatedOnly, startingOffsetBytes, cookie } = call.request;
        const fromBytes = Number(startingOffsetBytes);
        const refuse = (reason: string): void => {
          const refusal = new AgentError(status.FAILED_PRECONDITION, reason, 'the stub refuses');
          call.emit('error', toServiceError(refusal));
        };
        if (fromBytes > 0 && this.refusal !== undefined) {
          refuse(this.refusal);
          return;
        }
        if (this.state !== TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT) {
          refuse('NO_IMAGE');
          return;
        }
        if (cookie && (cookie.seqId !== this.seqId || cookie.nonce !== this.nonce)) {
          refuse('COOKIE_MISMATCH');
          return;
        }
        const oldest = this.oldestKnown ?? this.seqId - 1n;
        const isKnown =
          since !== undefined &&
          since.seqId >= oldest &&
          since.seqId < this.seqId &&
          since.nonce === this.nonce;
        if (since && !isKnown) {
          const refusal = new AgentError(
            status.FAILED_PRECONDITION,
            'CHANGES_UNKNOWN',
            'what has changed is not known',
          );
          call.emit('error', toServiceError(refusal));
          return;
        }
        const send = async (): Promise<void> => {
          let blocks: Blocks[] = [];
          const stream = since ? this.volume.increment() : this.volume.full();
          for await (const piece of stream) {
            if (allocatedOnly) blocks.push(...this.volume.allocatedOf(piece));
            else blocks.push(piece);
          }
          blocks = joined(blocks).flatMap((piece) => partFrom(piece, fromBytes));
          const bytesOf = (...kinds: Blocks['kind'][]): number =>
            blocks
              .filter(({ kind }) => kinds.includes(kind))
              .reduce((sum, piece) => sum + lengthOf(piece), 0);
          const dataBytes = bytesOf('data');
          this.reads.push({ fromBytes, dataBytes, heldBytes: bytesOf('data', 'hole') });
          const value = {
            cookie: this.cookie,
            volumeSizeBytes: BigInt(this.volume.sizeBytes),
            totalBytes: BigInt(bytesOf('data', 'hole', 'skipped')),
            allocatedKnown: allocatedOnly,
            allocatedUnknownReason: '',
            skippedBytes: BigInt(bytesOf('skipped')),
          };
          call.write({ content: { $case: 'header', value } });
          const failsAt = this.failsMidway ? Math.ceil(blocks.length / 2) : blocks.length;
          for await (const message of withDigests(messagesOf(blocks.slice(0, failsAt)))) {
            const sent = this.tamper(message);
            if (sent) call.write(sent);
          }
          if (!this.failsMidway) {
            call.end();
            return;
          }
          const failure = new AgentError(status.DATA_LOSS, 'IMAGE_FAILED', 'the COW file is full');
          call.emit('error', toServiceError(failure));
        };
        void send();
      },
    };
  }

  /** The checksum of each MiB of the target. */
  private targetLeaves(): Buffer[] {
    const leaves: Buffer[] = [];
    for (let at = 0; at < this.target.length; at += CHUNK_SIZE) {
      const chunk = this.target.subarray(at, at + CHUNK_SIZE);
      leaves.push(createHash('sha256').update(chunk).digest());
    }
    return leaves;
  }

  private async sendTargetDigests(
    call: ServerWritableStream<ListTargetDigestsRequest, ListTargetDigestsResponse>,
  ): Promise<void> {
    for (const [i, sha256] of this.targetLeaves().entries()) {
      if (i === this.digestsUntilFailure) {
        while (i > 0 && this.restoredBytes === 0) await setTimeout(10);
        const failure = new AgentError(status.DATA_LOSS, 'DEVICE_FAILED', 'it cannot be read');
        call.emit('error', toServiceError(failure));
        return;
      }
      call.write({ offsetBytes: BigInt(i * CHUNK_SIZE), sha256 });
    }
    call.end();
  }

  private restoreHandlers(): RestoreServiceServer {
    return {
      beginRestore: unary(({ targetDevice }) => ({
        restoreId: '1',
        targetDevice,
        targetSizeBytes: BigInt(this.target.length),
      })),
      getRestore: unary(() => ({
        targetDevice: '',
        sizeBytes: BigInt(this.target.length),
        writtenBytes: 0n,
        verifiedBytes: 0n,
      })),
      listTargetDigests: (call) => {
        void this.sendTargetDigests(call);
      },
      writeBlocks: (call, callback) => {
        let writtenBytes = 0n;
        call.on('data', ({ content }: { content?: ReadBlocksResponse['content'] }) => {
          if (content?.$case === 'data') {
            content.value.data.copy(this.target, Number(content.value.offsetBytes));
            writtenBytes += BigInt(content.value.data.length);
          }
          if (content?.$case === 'hole') {
            const start = Number(content.value.offsetBytes);
            this.target.fill(0, start, start + Number(content.value.lengthBytes));
            writtenBytes += content.value.lengthBytes;
          }
        });
        call.on('end', () => {
          this.restoredBytes += Number(writtenBytes);
          callback(null, { writtenBytes });
        });
      },
      commitRestore: unary(({ sha256Tree }) => {
        const leaves = Buffer.concat(this.targetLeaves());
        const tree = createHash('sha256').update(leaves).digest('hex');
        if (tree === sha256Tree) return { sha256Tree };
        throw new AgentError(status.DATA_LOSS, 'RESTORE_DAMAGED', 'it is not the backup');
      }),
      abortRestore: unary(() => ({})),
    };
  }
}
