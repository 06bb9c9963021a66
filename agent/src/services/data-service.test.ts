// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { open, readFile, writeFile, type FileHandle } from 'node:fs/promises';
import { credentials, Server, ServerCredentials, status, type ServiceError } from '@grpc/grpc-js';
import {
  ChangeServiceClient,
  ChangeServiceService,
  ListAllocatedExtentsRequest,
  type ListAllocatedExtentsResponse,
} from '../../../proto/gen/elio/v1/change.js';
import {
  DataServiceClient,
  DataServiceService,
  ReadBlocksRequest,
  type ReadBlocksHeader,
  type ReadBlocksResponse,
} from '../../../proto/gen/elio/v1/data.js';
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import { blocksOf, ChangeMap } from '../changes/change-map.js';
import type { SnapDriver, TrackerInfo } from '../driver/snap-driver.js';
import { ChainStore, type Position } from '../state/chains.js';
import { Leases } from '../state/leases.js';
import { allocatedIn, Scratch, tool } from '../testing/filesystem-image.js';
import { Allocations } from './allocations.js';
import { ChangeService } from './change-service.js';
import { DataService } from './data-service.js';
import { piecesIn } from './stream-pieces.js';
import { Streams } from './streams.js';
import { Trackers } from './trackers.js';

const MIB = 1024 * 1024;
const SIZE = 48 * MIB;
const MINOR = 5;
const info = {
  minor: MINOR,
  blockDevice: '/dev/vdb',
  uuid: 'a'.repeat(32),
  seqId: 2n,
  error: 0,
} as TrackerInfo;
const cookie = { uuid: info.uuid, seqId: info.seqId, nonce: 'n' };

/** A chain whose changes are what a test says. */
class KnownChanges extends ChainStore {
  changes = ChangeMap.empty(blocksOf(BigInt(SIZE)));

  override cookie(): Promise<Cookie> {
    return Promise.resolve(cookie);
  }

  override changesSince(): Promise<ChangeMap> {
    return Promise.resolve(this.changes);
  }
}

/** The tracker of an image in a file. */
class OneTracker extends Trackers {
  override withImage(): Promise<TrackerInfo> {
    return Promise.resolve(info);
  }

  override position({ uuid, seqId }: TrackerInfo): Promise<Position> {
    return Promise.resolve({
      uuid,
      seqId,
      sizeBytes: BigInt(SIZE),
      cowFileBlocks: () => Promise.resolve([]),
      changedBefore: () => Promise.resolve(undefined),
    });
  }
}

describe('the image of a filesystem', () => {
  let scratch: Scratch;
  let path = '';
  let chains: KnownChanges;
  let server: Server;
  let data: DataServiceClient;
  let changes: ChangeServiceClient;

  before(async () => {
    scratch = await Scratch.make();
    path = scratch.path('image');
    chains = new KnownChanges(scratch.path('chains'));
    const leases = new Leases(scratch.path('leases'), () => Promise.resolve());
    const trackers = new OneTracker({} as SnapDriver, chains, leases);
    const streams = new Streams();
    const openImage = (): Promise<FileHandle> => open(path, 'r');
    const allocations = new Allocations(openImage, () => {
      // Each test has an image of its own under the same name.
      setImmediate(() => {
        allocations.keepOnly([]);
      });
      return Promise.resolve();
    });
    server = new Server();
    server.addService(
      DataServiceService,
      new DataService(trackers, allocations, streams, openImage, () => undefined).handlers(),
    );
    server.addService(
      ChangeServiceService,
      new ChangeService(trackers, allocations, streams).handlers(),
    );
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    data = new DataServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
    changes = new ChangeServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  });
  after(async () => {
    data.close();
    changes.close();
    server.forceShutdown();
    await scratch.remove();
  });

  interface Seen {
    header: ReadBlocksHeader;
    readBytes: number;
    skippedBytes: number;
  }

  /** Reads blocks and writes them to a buffer, where what is skipped stays as it was. */
  async function readInto(target: Buffer, more: Partial<ReadBlocksRequest>): Promise<Seen> {
    const call = data.readBlocks(ReadBlocksRequest.fromPartial({ minor: MINOR, ...more }));
    const seen: Partial<Seen> = {};
    let readBytes = 0;
    let skippedBytes = 0;
    let end = 0;
    /** What came of each MiB, by its first byte; and those of which data came, but no checksum yet. */
    const sent = new Map<number, Buffer[]>();
    const hasData = new Set<number>();
    for await (const { content } of call as AsyncIterable<ReadBlocksResponse>) {
      assert.ok(content);
      if (content.$case === 'header') {
        seen.header = content.value;
        continue;
      }
      if (content.$case === 'digests') {
        for (const { offsetBytes, sha256 } of content.value.digests) {
          const at = Number(offsetBytes);
          const wanted = createHash('sha256').update(Buffer.concat(sent.get(at) ?? []));
          assert.deepEqual(sha256, wanted.digest(), `of the MiB at ${String(at)}`);
          hasData.delete(at);
        }
        continue;
      }
      for (const piece of piecesIn(content)) {
        const { kind, offset } = piece;
        assert.ok(offset >= end);
        end = offset + (piece.kind === 'data' ? piece.data.length : piece.length);
        if (kind === 'skipped') {
          skippedBytes += end - offset;
          continue;
        }
        readBytes += end - offset;
        if (kind === 'data') {
          piece.data.copy(target, offset);
          hasData.add(offset - (offset % MIB));
        } else {
          target.fill(0, offset, end);
        }
        for (let at = offset; at < end; at += MIB - (at % MIB)) {
          const chunk = at - (at % MIB);
          const part = target.subarray(at, Math.min(end, chunk + MIB));
          sent.set(chunk, [...(sent.get(chunk) ?? []), Buffer.from(part)]);
        }
      }
    }
    assert.ok(seen.header);
    assert.equal(Number(seen.header.totalBytes), readBytes + skippedBytes);
    assert.deepEqual([...hasData], []);
    assert.equal(Number(seen.header.skippedBytes), skippedBytes);
    return { header: seen.header, readBytes, skippedBytes };
  }

  async function makeExt4(): Promise<void> {
    await scratch.file('image', SIZE);
    const files = scratch.path('files');
    await writeFile(files, randomBytes(3 * MIB));
    await tool(['mke2fs', '-q', '-F', '-t', 'ext4', path]);
    const commands = [0, 1, 2, 3, 4, 5].map((n) => `write ${files} file${n}`);
    await tool(
      ['debugfs', '-w', '-f', '-', path],
      [...commands, 'rm file1', 'rm file3', ''].join('\n'),
    );
  }

  /** A filesystem in a buffer is whole, and its files are those of the image. */
  async function assertSameFiles(restored: Buffer): Promise<void> {
    const copy = scratch.path('copy');
    await writeFile(copy, restored);
    await tool(['e2fsck', '-fn', copy]);
    for (const name of ['file0', 'file2', 'file4', 'file5']) {
      const sums: string[] = [];
      for (const image of [path, copy]) {
        await tool(['debugfs', '-R', `dump ${name} ${scratch.path('dumped')}`, image]);
        sums.push(
          createHash('sha256')
            .update(await readFile(scratch.path('dumped')))
            .digest('hex'),
        );
      }
      assert.equal(sums[0], sums[1], name);
    }
  }

  it('is whole when only what is allocated is restored, over anything', async () => {
    await makeExt4();
    const target = randomBytes(SIZE);
    const garbage = Buffer.from(target);
    const { header, skippedBytes } = await readInto(target, { allocatedOnly: true });
    assert.deepEqual([header.allocatedKnown, header.allocatedUnknownReason], [true, '']);
    assert.equal(Number(header.totalBytes), SIZE);
    assert.ok(skippedBytes > SIZE / 2, String(skippedBytes));
    await assertSameFiles(target);
    const first = (await allocatedIn(path)).withoutGapsBelow(16).complement().runs.at(-1);
    assert.ok(first);
    const at = first.first * 4096;
    assert.deepEqual(target.subarray(at, at + 4096), garbage.subarray(at, at + 4096));
  });

  it('is sent as a whole when nobody asks for less', async () => {
    await makeExt4();
    const target = randomBytes(SIZE);
    const { header } = await readInto(target, {});
    assert.deepEqual(
      [header.allocatedKnown, header.allocatedUnknownReason, header.skippedBytes],
      [false, '', 0n],
    );
    assert.ok(target.equals(await readFile(path)));
  });

  it('goes on at an offset', async () => {
    await makeExt4();
    const whole = randomBytes(SIZE);
    const inTwo = Buffer.from(whole);
    await readInto(whole, { allocatedOnly: true });
    const seen = await readInto(inTwo, {
      allocatedOnly: true,
      startingOffsetBytes: BigInt(5 * MIB),
    });
    assert.equal(Number(seen.header.totalBytes), SIZE - 5 * MIB);
    assert.ok(inTwo.subarray(5 * MIB).equals(whole.subarray(5 * MIB)));
  });

  it('has of what changed only what is allocated', async () => {
    await makeExt4();
    chains.changes = ChangeMap.fromRuns(SIZE / 4096, [
      { first: 10, count: 3000 },
      { first: 9000, count: 2000 },
    ]);
    const target = Buffer.alloc(SIZE, 7);
    const { header, readBytes } = await readInto(target, { since: cookie, allocatedOnly: true });
    assert.equal(Number(header.totalBytes), 5000 * 4096);
    const sent = chains.changes.intersection((await allocatedIn(path)).withoutGapsBelow(16));
    assert.equal(BigInt(readBytes), sent.coveredBytes(BigInt(SIZE)));
    const image = await readFile(path);
    for (const { first, count } of sent.runs) {
      const [start, end] = [first * 4096, (first + count) * 4096];
      assert.ok(target.subarray(start, end).equals(image.subarray(start, end)));
    }
    for (const { first, count } of sent.complement().runs) {
      assert.ok(target.subarray(first * 4096, (first + count) * 4096).every((byte) => byte === 7));
    }
  });

  it('is sent as a whole, with the reason, when the filesystem cannot tell', async () => {
    await makeExt4();
    await tool(['debugfs', '-w', '-R', 'ssv state 2', path]);
    const target = randomBytes(SIZE);
    const { header } = await readInto(target, { allocatedOnly: true });
    assert.equal(header.allocatedKnown, false);
    assert.match(header.allocatedUnknownReason, /not marked as clean/);
    assert.ok(target.equals(await readFile(path)));
  });

  async function list(
    more: Partial<ListAllocatedExtentsRequest>,
  ): Promise<ListAllocatedExtentsResponse[]> {
    const call = changes.listAllocatedExtents(
      ListAllocatedExtentsRequest.fromPartial({ minor: MINOR, ...more }),
    );
    const messages: ListAllocatedExtentsResponse[] = [];
    for await (const message of call as AsyncIterable<ListAllocatedExtentsResponse>) {
      messages.push(message);
    }
    return messages;
  }

  it('is listed in messages of the size that is asked for', async () => {
    await makeExt4();
    const { runs } = await allocatedIn(path);
    const expected = Array.from(runs, ({ first, count }) => ({
      offsetBytes: BigInt(first * 4096),
      lengthBytes: BigInt(count * 4096),
    }));
    assert.ok(expected.length > 4);
    const messages = await list({ maxResults: 2 });
    assert.equal(messages.length, Math.ceil(expected.length / 2));
    assert.deepEqual(
      messages.flatMap(({ extents }) => extents),
      expected,
    );
    for (const message of messages) {
      assert.deepEqual([message.cookie, message.volumeSizeBytes], [cookie, BigInt(SIZE)]);
    }
    const last = expected.at(-1);
    assert.ok(last);
    const rest = await list({ startingOffsetBytes: last.offsetBytes });
    assert.deepEqual(
      rest.map(({ extents }) => extents),
      [[last]],
    );
    const none = await list({ startingOffsetBytes: BigInt(SIZE), cookie });
    assert.deepEqual(
      none.map(({ extents }) => extents),
      [[]],
    );
  });

  it('is not listed when the filesystem cannot tell, or for another cookie', async () => {
    const refused = async (
      more: Partial<ListAllocatedExtentsRequest>,
      message: RegExp,
      code = status.FAILED_PRECONDITION,
    ): Promise<void> => {
      await assert.rejects(list(more), (error: ServiceError) => {
        assert.equal(error.code, code);
        assert.match(error.details, message);
        return true;
      });
    };
    await scratch.file('image', SIZE);
    await refused({}, /no filesystem of a known kind.*; read everything$/);
    await refused({ cookie: { ...cookie, nonce: 'other' } }, /not the one that was asked for/);
    await refused(
      { startingOffsetBytes: BigInt(SIZE + 4096) },
      /behind the end/,
      status.OUT_OF_RANGE,
    );
    await refused({ startingOffsetBytes: 7n }, /not a multiple/, status.INVALID_ARGUMENT);
  });
});
