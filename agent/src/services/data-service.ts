// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from 'node:fs/promises';
import type {
  DataServiceServer,
  ReadBlocksRequest,
  ReadBlocksResponse,
} from '../../../proto/gen/elio/v1/data.js';
import { blocksOf, ChangeMap } from '../changes/change-map.js';
import { serverStream } from '../server/rpc.js';
import { splitByAllocation, type Allocations } from './allocations.js';
import { streamBlocks } from './block-stream.js';
import { changesSince, insistOnCookie, startingBlock } from './positions.js';
import { withDigests } from './stream-digests.js';
import type { Streams } from './streams.js';
import type { Trackers } from './trackers.js';

/** Streams the content of images. */
export class DataService {
  constructor(
    private readonly trackers: Trackers,
    private readonly allocations: Allocations,
    private readonly streams: Streams,
    private readonly openImage: (minor: number) => Promise<FileHandle>,
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
    insistOnCookie(r.cookie, cookie, minor);
    const all = r.since
      ? await changesSince(this.trackers, r.since, position)
      : ChangeMap.full(blocksOf(sizeBytes));
    const wanted = all.from(block);
    const image = await this.openImage(minor);
    const end = this.streams.begin(minor, peer);
    try {
      const allocation = r.allocatedOnly
        ? await this.allocations.of({ ...position, minor })
        : undefined;
      const { map, skipped } = splitByAllocation(wanted, allocation);
      yield {
        content: {
          $case: 'header',
          value: {
            cookie,
            volumeSizeBytes: sizeBytes,
            totalBytes: wanted.coveredBytes(sizeBytes),
            allocatedKnown: allocation !== undefined && 'map' in allocation,
            allocatedUnknownReason: allocation && 'reason' in allocation ? allocation.reason : '',
            skippedBytes: skipped.coveredBytes(sizeBytes),
          },
        },
      };
      for await (const message of withDigests(streamBlocks(image, map, sizeBytes, skipped))) {
        yield message;
        const { content } = message;
        if (content?.$case === 'data' || content?.$case === 'scattered') {
          this.countSent(content.value.data.length);
        }
        // The client took it: a snapshot that is read is in use.
        this.trackers.leases.renew(info);
      }
      await this.trackers.checkStillThatImage(minor, position);
    } catch (error) {
      throw await this.trackers.causeOfFailedRead(minor, error);
    } finally {
      await image.close();
      end();
    }
  }
}
