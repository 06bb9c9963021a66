// SPDX-License-Identifier: Apache-2.0
import { status } from '@grpc/grpc-js';
import type {
  ChangeServiceServer,
  ListChangedExtentsRequest,
  ListChangedExtentsResponse,
} from '../../../proto/gen/elio/v1/change.js';
import { extentOf } from '../changes/change-map.js';
import { AgentError } from '../errors.js';
import { serverStream } from '../server/rpc.js';
import { changesSince, startingBlock } from './positions.js';
import type { Trackers } from './trackers.js';

const EXTENTS_PER_MESSAGE = 8192;

/** Streams the extents that changed between two snapshots. */
export class ChangeService {
  constructor(private readonly trackers: Trackers) {}

  handlers(): ChangeServiceServer {
    return { listChangedExtents: serverStream((r) => this.list(r)) };
  }

  private async *list(r: ListChangedExtentsRequest): AsyncGenerator<ListChangedExtentsResponse> {
    if (!r.since) {
      throw new AgentError(status.INVALID_ARGUMENT, 'BAD_ARGUMENT', 'since is not set');
    }
    const info = await this.trackers.withImage(r.minor);
    const position = await this.trackers.position(info);
    const block = startingBlock(r.startingOffsetBytes, position.sizeBytes);
    const cookie = await this.trackers.chains.cookie(position);
    const { runs } = (await changesSince(this.trackers, r.since, position)).from(block);
    const most = Math.min(
      r.maxResults === 0 ? EXTENTS_PER_MESSAGE : r.maxResults,
      EXTENTS_PER_MESSAGE,
    );
    let at = 0;
    do {
      const extents = runs.slice(at, at + most).map((run) => extentOf(run, position.sizeBytes));
      yield { cookie, volumeSizeBytes: position.sizeBytes, extents };
      this.trackers.leases.renew(info);
      at += most;
    } while (at < runs.length);
  }
}
