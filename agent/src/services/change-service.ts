// SPDX-License-Identifier: Apache-2.0
import { status } from '@grpc/grpc-js';
import type {
  ChangeServiceServer,
  ListAllocatedExtentsRequest,
  ListAllocatedExtentsResponse,
  ListChangedExtentsRequest,
  ListChangedExtentsResponse,
} from '../../../proto/gen/elio/v1/change.js';
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import { extentOf, type ChangeMap } from '../changes/change-map.js';
import type { TrackerInfo } from '../driver/snap-driver.js';
import { AgentError } from '../errors.js';
import { serverStream } from '../server/rpc.js';
import type { Position } from '../state/chains.js';
import type { Allocation, Allocations } from './allocations.js';
import { changesSince, insistOnCookie, startingBlock } from './positions.js';
import type { Streams } from './streams.js';
import type { Trackers } from './trackers.js';

const EXTENTS_PER_MESSAGE = 8192;

/** Streams extents: those that changed between two snapshots, or that the filesystem has allocated. */
export class ChangeService {
  constructor(
    private readonly trackers: Trackers,
    private readonly allocations: Allocations,
    private readonly streams: Streams,
  ) {}

  handlers(): ChangeServiceServer {
    return {
      listChangedExtents: serverStream((r) => this.listChanged(r)),
      listAllocatedExtents: serverStream((r, _signal, peer) => this.listAllocated(r, peer)),
    };
  }

  private async *listChanged(
    r: ListChangedExtentsRequest,
  ): AsyncGenerator<ListChangedExtentsResponse> {
    if (!r.since) {
      throw new AgentError(status.INVALID_ARGUMENT, 'BAD_ARGUMENT', 'since is not set');
    }
    const info = await this.trackers.withImage(r.minor);
    const position = await this.trackers.position(info);
    const block = startingBlock(r.startingOffsetBytes, position.sizeBytes);
    const cookie = await this.trackers.chains.cookie(position);
    const map = (await changesSince(this.trackers, r.since, position)).from(block);
    yield* this.pages(info, cookie, position, map, r.maxResults);
  }

  private async *listAllocated(
    r: ListAllocatedExtentsRequest,
    peer: string,
  ): AsyncGenerator<ListAllocatedExtentsResponse> {
    const { minor } = r;
    const info = await this.trackers.withImage(minor);
    const position = await this.trackers.position(info);
    const block = startingBlock(r.startingOffsetBytes, position.sizeBytes);
    const cookie = await this.trackers.chains.cookie(position);
    insistOnCookie(r.cookie, cookie, minor);
    const end = this.streams.begin(minor, peer);
    let allocation: Allocation;
    try {
      allocation = await this.allocations.of({ ...position, minor });
    } catch (error) {
      throw await this.trackers.causeOfFailedRead(minor, error);
    } finally {
      end();
    }
    if ('reason' in allocation) {
      throw new AgentError(
        status.FAILED_PRECONDITION,
        'ALLOCATED_UNKNOWN',
        `the filesystem in the image of snapshot ${String(minor)} cannot tell what it has allocated: ${allocation.reason}; read everything`,
        { minor: String(minor), device: info.blockDevice },
      );
    }
    yield* this.pages(info, cookie, position, allocation.map.from(block), r.maxResults);
  }

  private *pages(
    info: TrackerInfo,
    cookie: Cookie,
    { sizeBytes }: Position,
    { runs }: ChangeMap,
    maxResults: number,
  ): Generator<ListChangedExtentsResponse & ListAllocatedExtentsResponse> {
    const most = Math.min(maxResults === 0 ? EXTENTS_PER_MESSAGE : maxResults, EXTENTS_PER_MESSAGE);
    let at = 0;
    do {
      const extents = Array.from(runs.slice(at, at + most), (run) => extentOf(run, sizeBytes));
      yield { cookie, volumeSizeBytes: sizeBytes, extents };
      this.trackers.leases.renew(info);
      at += most;
    } while (at < runs.length);
  }
}
