// SPDX-License-Identifier: Apache-2.0
import { status } from '@grpc/grpc-js';
import type {
  DataServiceServer,
  ReadBlocksRequest,
  ReadBlocksResponse,
} from '../../../proto/gen/elio/v1/data.js';
import { blocksOf, ChangeMap } from '../changes/change-map.js';
import { AgentError, isErrnoException } from '../errors.js';
import { openDirect } from '../os/direct-io.js';
import { serverStream } from '../server/rpc.js';
import { streamBlocks } from './block-stream.js';
import { changesSince, sameCookie, startingBlock } from './positions.js';
import type { Streams } from './streams.js';
import { imageDevice, type Trackers } from './trackers.js';

/** Streams the content of images. */
export class DataService {
  constructor(
    private readonly trackers: Trackers,
    private readonly streams: Streams,
    /** Told of each piece of data that was sent, in bytes. */
    private readonly countSent: (bytes: number) => void,
  ) {}

  handlers(): DataServiceServer {
    return { readBlocks: serverStream((r, _signal, peer) => this.read(r, peer)) };
  }

  private async *read(r: ReadBlocksRequest, peer: string): AsyncGenerator<ReadBlocksResponse> {
    const { minor } = r;
    const info = await this.trackers.withImage(minor);
    const position = await this.trackers.position(info);
    const { sizeBytes } = position;
    const block = startingBlock(r.startingOffsetBytes, sizeBytes);
    const cookie = await this.trackers.chains.cookie(position);
    if (r.cookie && !sameCookie(r.cookie, cookie)) {
      throw new AgentError(
        status.FAILED_PRECONDITION,
        'COOKIE_MISMATCH',
        `the image of snapshot ${String(minor)} is not the one that was asked for: it is seq_id ${String(cookie.seqId)} of ${cookie.uuid}`,
        { minor: String(minor) },
      );
    }
    const all = r.since
      ? await changesSince(this.trackers, r.since, position)
      : ChangeMap.full(blocksOf(sizeBytes));
    const map = all.from(block);
    yield {
      content: {
        $case: 'header',
        value: { cookie, volumeSizeBytes: sizeBytes, totalBytes: map.coveredBytes(sizeBytes) },
      },
    };
    const image = await openDirect(imageDevice(minor));
    const end = this.streams.begin(minor, peer);
    try {
      for await (const message of streamBlocks(image, map, sizeBytes)) {
        yield message;
        if (message.content?.$case === 'data') this.countSent(message.content.value.data.length);
        // The client took it: a snapshot that is read is in use.
        this.trackers.leases.renew(info);
      }
      await this.checkStillThatImage(minor, position.seqId);
    } catch (error) {
      throw await this.withCause(minor, error);
    } finally {
      await image.close();
      end();
    }
  }

  /** A failed read of the image is told with the reason why the snapshot failed. */
  private async withCause(minor: number, error: unknown): Promise<unknown> {
    if (!isErrnoException(error) || error.code !== 'EIO') return error;
    const info = await this.trackers.info(minor).catch(() => undefined);
    const cause =
      info && info.error !== 0 ? `it failed with ${String(info.error)}` : 'see the kernel log';
    return new AgentError(
      status.DATA_LOSS,
      'IMAGE_FAILED',
      `the image of snapshot ${String(minor)} cannot be read: ${cause}; destroy the snapshot, set it up again and take a full`,
      { minor: String(minor), error: String(info?.error ?? 0) },
    );
  }

  /** With ignore_errors a failed image reads as zeros: such a stream must not end well. */
  private async checkStillThatImage(minor: number, seqId: bigint): Promise<void> {
    const info = await this.trackers.withImage(minor);
    if (info.seqId !== seqId) {
      throw new AgentError(
        status.DATA_LOSS,
        'IMAGE_FAILED',
        `snapshot ${String(minor)} moved on while it was read`,
        { minor: String(minor) },
      );
    }
  }
}
